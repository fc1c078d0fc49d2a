"""The objective of a job: the measures that it returns to a sweeper, which searches for the settings of the best.

Of a table it is the experiment's own row: for each measure the mean over the columns.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from irexp.artifact.plan import Plan, Step
from irexp.artifact.values import is_trained, select
from irexp.config.check import near
from irexp.config.measure import parse_measure, parse_measures
from irexp.types import UserError

#: What stage=speed measures for every engine; the last two not for one on a server.
_SPEED = (
    *("ms_one_by_one", "ms_at_once", "queries_per_second_one_by_one", "queries_per_second_at_once"),
    *("memory_mib", "bytes_per_document"),
)


def objective_names(plan: Plan, *, is_needed: bool = False) -> list[str]:
    """The names of the measures that a job returns: those of `objective`, else its first of effectiveness.

    Args:
        plan: of the job.
        is_needed: whether a sweeper searches for it.

    Returns:
        The names, as `Outcome.measures` has them; none if the job measures nothing and `objective` is null.

    Raises:
        UserError: if `objective` names what the stages of this job do not measure, or an objective is needed and it is
            open which row of the table it is.
    """
    chosen = plan.experiment.values["objective"]
    if not _has_own(plan):
        if chosen is None and not is_needed:
            return []
        named = ", ".join(plan.experiment.values["rows"])
        raise UserError(
            f"objective: none of the rows {named} is this experiment itself, so it is open which one to search for; "
            f"leave one row, or make one of them this experiment, as ours: []"
        )
    found = _measured(own_row(plan))
    measured = [name for names in found.values() for name in names]
    if chosen is None:
        return next((found[stage][:1] for stage in ("evaluate", "fit") if stage in found), [])
    names = [name if name in measured else _canonical(name) for name in chosen]
    for name in names:
        if name not in measured:
            stages = ",".join(plan.experiment.stages)
            columns = " in every column" if plan.experiment.values["columns"] else ""
            hint = near(name, measured) if measured or columns else "; add evaluate, or fit with validations"
            raise UserError(f"objective: stage={stages} does not measure {name}{columns}{hint}")
    return names


def objective(
    names: Sequence[str], plan: Plan, measured: Mapping[Step, Mapping[str, float]]
) -> float | list[float] | None:
    """The value of the objective, a list if it has several names; None if it has none.

    Args:
        names: what `objective_names` returned.
        plan: of the job.
        measured: the measures of each step.

    Raises:
        UserError: if a measure has no value.
    """
    row = own_row(plan)
    values_of = {name: [measured[step][name] for step in row if name in measured.get(step, {})] for name in names}
    for name, values in values_of.items():
        if not values:
            raise UserError(
                f"objective: this job measured no {name}; choose another measure (memory and bytes of an index on a "
                f"server, index.uri, are not known)"
            )
    found = [statistics.fmean(values) for values in values_of.values()]
    return found[0] if len(found) == 1 else found or None


def own_row(plan: Plan) -> Sequence[Step]:
    """The requested steps of the experiment's own row, of each column: its only row, or the one without changes.

    None of them if the table has several rows of which none is the experiment itself.
    """
    return plan.rows.get(_name_of_own(plan), ()) if _has_own(plan) else ()


def _has_own(plan: Plan) -> bool:
    rows = plan.experiment.values["rows"] or {}
    return len(rows) < 2 or not all(rows.values())


def _name_of_own(plan: Plan) -> str | None:
    """The name of the experiment's own row, if it has one; None if rows have no names."""
    rows = plan.experiment.values["rows"] or {}
    return next((name for name, overrides in rows.items() if not overrides), next(iter(rows), None))


def _measured(row: Sequence[Step]) -> dict[str, list[str]]:
    """What the requested stages measure in every column, by stage."""
    found: dict[str, list[str]] = {}
    for stage in ("evaluate", "fit", "speed"):
        lists = [_measured_by(step, stage) for step in row if step.stage is not None and step.stage.name == stage]
        if lists and any(lists):
            found[stage] = [name for name in lists[0] if all(name in names for names in lists)]
    return found


def _measured_by(step: Step, stage: str) -> list[str]:
    values = step.experiment.values
    if stage == "evaluate":
        return list(map(str, parse_measures(select(values, "evaluation.measures"))))
    if stage == "speed":
        return list(_SPEED)
    is_validated = is_trained(values) and select(values, "training.validate_every") is not None
    return [f"validation/{select(values, 'training.select_by')}"] if is_validated else []


def _canonical(name: str) -> str:
    """The name of a measure as ir_measures writes it; any other name as it is."""
    try:
        return str(parse_measure(name))
    except UserError:
        return name
