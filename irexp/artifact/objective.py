"""The objective of a job: the measures that it returns to a sweeper, which searches for the settings of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irexp.artifact.plan import Plan
from irexp.artifact.values import is_trained, select
from irexp.config.check import near
from irexp.config.measure import parse_measure, parse_measures
from irexp.types import UserError

#: What stage=speed measures for every engine.
_SPEED = (
    *("ms_one_by_one", "ms_at_once", "queries_per_second_one_by_one", "queries_per_second_at_once"),
    *("memory_mib", "bytes_per_document"),
)


def objective_names(plan: Plan) -> list[str]:
    """The names of the measures that a job returns: those of `objective`, else its first of effectiveness.

    Returns:
        The names, as `Outcome.measures` has them; none if the job measures nothing and `objective` is null.

    Raises:
        UserError: if `objective` names what the stages of this job do not measure.
    """
    measured = _measured(plan)
    chosen = plan.experiment.values["objective"]
    if chosen is None:
        return [name for name in measured if name not in _SPEED][:1]
    names = [name if name in measured else _canonical(name) for name in chosen]
    for name in names:
        if name not in measured:
            stages = ",".join(plan.experiment.stages)
            raise UserError(
                f"objective: stage={stages} does not measure {name}{near(name, measured)}"
                if measured
                else f"objective: stage={stages} does not measure {name}; add evaluate, or fit with validations"
            )
    return names


def objective(names: Sequence[str], measures: Mapping[str, float]) -> float | list[float] | None:
    """The value of the objective, a list if it has several names; None if it has none.

    >>> objective(["RR@10"], {"nDCG@10": 0.5, "RR@10": 0.25})
    0.25
    >>> objective(["RR@10", "nDCG@10"], {"nDCG@10": 0.5, "RR@10": 0.25})
    [0.25, 0.5]
    """
    found = [measures[name] for name in names]
    return found[0] if len(found) == 1 else found or None


def _measured(plan: Plan) -> list[str]:
    """What the requested stages of the experiment measure; what it returns by default comes first."""
    values = plan.experiment.values
    stages = [step.stage.name for step in plan.own if step.stage is not None]
    found: list[str] = []
    if "evaluate" in stages:
        found += map(str, parse_measures(select(values, "evaluation.measures")))
    if "fit" in stages and is_trained(values) and select(values, "training.validate_every") is not None:
        found.append(f"validation/{select(values, 'training.select_by')}")
    if "speed" in stages:
        found += _SPEED
    return found


def _canonical(name: str) -> str:
    """The name of a measure as ir_measures writes it; any other name as it is."""
    try:
        return str(parse_measure(name))
    except UserError:
        return name
