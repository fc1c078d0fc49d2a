"""Make the missing artifacts of a plan, in its order, so that a step's inputs exist before its stage is called.

An artifact that exists is made again only if forced. No stage starts if an artifact is missing that this job may not
make.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irexp.artifact.energy import measured_resources
from irexp.artifact.identity import Identity
from irexp.artifact.ir_metadata import write_ir_metadata
from irexp.artifact.manifest import DamagedArtifactError
from irexp.artifact.objective import own_row
from irexp.artifact.plan import Placed, Plan, Step
from irexp.artifact.provenance import provenance
from irexp.artifact.recorded import recorded_configuration, recorded_given
from irexp.artifact.spec import Own, Rows, This
from irexp.artifact.store import Found, MissingArtifactError, Store
from irexp.config.built import built
from irexp.evaluation.run_file import RUN
from irexp.pipeline.machine import is_helper, share
from irexp.stage.card import write_card
from irexp.stage.conventions import is_exact
from irexp.stage.explain import missing
from irexp.stage.files import require_files
from irexp.stage.packages import require_packages
from irexp.stage.resources import require_models, require_resources
from irexp.stage.settings import require_settings
from irexp.study.trial import RunningTrial
from irexp.types import UserError

log = logging.getLogger(__name__)

#: What the system says of a full disk, an exceeded quota and a file that may not grow.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: With less free space than these bytes, any error is taken for a full disk, whatever its text.
_SPACE = 2**20


@dataclass
class Outcome:
    """The outcome of a stage.

    Attributes:
        stage: its name.
        status: made, already done, or done (it makes no artifact).
        path: the artifact's folder.
        seconds: how long the stage took in this job.
        measures: what the stage measured, in this job or when the artifact was made.
    """

    stage: str
    status: str
    path: str | None = None
    seconds: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)


def steps_to_run(plan: Plan, store: Store) -> tuple[list[Step], dict[Step, Found]]:
    """The steps that a job runs, in order: missing artifacts that were asked for, and their missing inputs.

    Returns:
        The steps, and the state in the store of these steps and of their inputs.

    Raises:
        DamagedArtifactError: if the files of a needed artifact have changed since it was made.
        MissingArtifactError: if an artifact is missing that this job may not make; names the stage that makes it.
    """
    wanted, found = missing_steps(plan, store)
    for step in wanted:  # optional inputs are passed on if they exist
        found |= {before: store.look(before.artifact) for _, before in step.before if before not in found}
    for step in plan.steps:
        _refuse_damaged(plan, step, found)
        if step in wanted and step not in plan.makes:
            raise MissingArtifactError(missing(plan, step, store))
    for step in plan.steps:  # now all that a stage opens is read, before anything long begins
        for before in _opened(step) if step in wanted else ():
            if before not in wanted and found[before].state in ("complete", "given"):
                found[before] = store.look(before.artifact, is_opened=True)
                _refuse_damaged(plan, before, found)
    return [step for step in plan.steps if step in wanted], found


def missing_steps(plan: Plan, store: Store) -> tuple[set[Step], dict[Step, Found]]:
    """The steps without which a job cannot make what was asked for, and the state of all that were looked up."""
    wanted: set[Step] = set()
    found: dict[Step, Found] = {}
    waiting = list(plan.goals)
    while waiting:
        step = waiting.pop()
        if step in found:
            continue
        found[step] = store.look(step.artifact)
        if found[step].state in ("complete", "given") and step not in plan.forced:
            continue
        wanted.add(step)
        # below a step that may not be made, the error names the first missing one of its experiment
        waiting += [s for s in step.needs if step in plan.makes or s.experiment is step.experiment]
    return wanted, found


def checked_steps(plan: Plan, store: Store) -> tuple[list[Step], dict[Step, Found]]:
    """The same as `steps_to_run`, after a check of what these steps need: settings, packages, files, where they write.

    Raises:
        UserError: naming what is wrong or missing.
    """
    wanted, found = steps_to_run(plan, store)
    require_files(wanted)  # before torch is imported
    require_settings(wanted)
    require_packages(wanted)
    require_resources(wanted)
    require_models(wanted)
    return wanted, found


def _refuse_damaged(plan: Plan, step: Step, found: dict[Step, Found]) -> None:
    """Refuse what is damaged, unless it is made again."""
    fault = found[step].fault if step in found else None
    if fault is not None and step not in plan.forced:
        raise DamagedArtifactError(fault)


def _opened(step: Step) -> list[Step]:
    """The inputs that a stage's function opens."""
    taken = _taken(step)
    return [before for name, before in step.before if name in taken]


def execute(
    plan: Plan,
    store: Store,
    output: Path,
    *,
    logger_of: Callable[[Step], Any] = lambda step: None,
    trial: RunningTrial | None = None,
) -> Iterator[tuple[Step, Outcome, Any]]:
    """Run the missing steps of a plan; yield every step that was run or asked for, once it is done.

    Args:
        plan: the steps, and which of them were asked for.
        store: where artifacts are looked up and made.
        output: the job's folder, for stages that make no artifact.
        logger_of: the trackers of a step, for stages that take some.
        trial: the trial that the job's own fit reports to, if a sweep may prune it.

    Yields:
        The step, its outcome, and what its function returned; its recorded measures if it was already done.
    """
    wanted, found = checked_steps(plan, store)
    for step in plan.steps:
        if step in wanted:
            inputs = [_argument(plan, step, name, found) for name in _taken(step)]
            logged = {"logger": logger_of(step), "trial": trial if step in own_row(plan) else None}
            outcome, result = _run(step, inputs, store, output, logged, is_forced=step in plan.forced)
            found[step] = Found("complete", Path(outcome.path) if outcome.path else None, outcome.measures)
        elif step in plan.goals:
            outcome = _already_done(step, found[step])
            result = outcome.measures
        else:
            continue
        if step.artifact is not None:
            announce(outcome)
        yield step, outcome, result


def _taken(step: Step) -> list[str]:
    """The inputs that a stage's function takes."""
    sources = step.stage.inputs if step.stage else {}
    return [name for name, source in sources.items() if not isinstance(source, Own) or source.handed]


def _argument(plan: Plan, step: Step, name: str, found: dict[Step, Found]) -> Any:
    """The argument for a stage's input: its folder, the name of a hub model, the table, or the experiment itself."""
    assert step.stage is not None
    inputs, source = step.inputs[name], step.stage.inputs[name]
    if isinstance(source, This):
        return step.experiment
    if isinstance(source, Rows):
        return placed(plan, found) if inputs is not None else None
    if isinstance(inputs, tuple):
        return [found[one].place for one in inputs]
    return found[inputs].place if inputs is not None else None


def placed(plan: Plan, found: Mapping[Step, Found]) -> list[Placed]:
    """The requested measures with their places in the experiment's table."""
    return [
        Placed(place, row, column)
        for row, column, step in plan.cells
        if step in found and isinstance(place := found[step].place, Path)
    ]


def _run(
    step: Step, inputs: list[Any], store: Store, output: Path, logged: dict[str, Any], *, is_forced: bool
) -> tuple[Outcome, Any]:
    """Call a step's stage."""
    assert step.stage is not None
    stage, config = step.stage, step.experiment.config
    start = time.perf_counter()
    if not isinstance(step.artifact, Identity):
        result = built(step.experiment.stage_node(stage.name))(output, *inputs)
        return Outcome(stage.name, "done", None, round(time.perf_counter() - start, 2)), result
    if share() is not None:
        return _make_share(step, step.artifact, store, inputs)
    if is_helper(config.machine):
        return _help(step, step.artifact, store, inputs)
    log.info("%s: making %s (%s)", stage.name, step.name, step.reason)
    with (
        _reporting_full_disk(store.root),
        store.making(step.artifact, resumes=stage.resumes, again=is_forced) as making,
    ):
        if making.found is None:
            call = built(step.experiment.stage_node(stage.name))
            _spare_what_is_imported()
            with measured_resources() as resources:
                measures = call(making.folder, *inputs, **(logged if stage.logged else {}))
            seconds = round(time.perf_counter() - start, 2)
            making.provenance = _record(step, making.folder, store, measures, seconds, output, resources)
    if making.found is not None:  # another process made it meanwhile
        return _already_done(step, making.found), making.found.measures
    if is_forced:
        _compare(step, making.changed)
    return Outcome(stage.name, "made", str(store.folder(step.artifact)), seconds, measures), measures


def _spare_what_is_imported() -> None:
    """Let the collector of garbage pass over all modules: of a million new lines it would take most of the time."""
    if gc.get_freeze_count():  # a trainer and its model refer to each other, and must not crowd this step's memory
        gc.collect()
    gc.freeze()


def _record(
    step: Step,
    folder: Path,
    store: Store,
    measures: dict[str, float],
    seconds: float,
    output: Path,
    resources: dict[str, Any],
) -> dict[str, Any]:
    """The provenance of an artifact; a checkpoint also gets a card, and a run its ir_metadata."""
    configuration = recorded_configuration(step, store)
    if step.stage is not None and step.stage.makes == "checkpoint":
        write_card(folder, configuration, name=step.name, root=store.root, validation=measures)
    found = provenance(
        overrides=list(step.experiment.overrides),
        options=dict(step.experiment.options),
        configuration=configuration,
        seconds=seconds,
        output=output,
        resources=resources,
    )
    recorded = {"measures": measures, "given": recorded_given(step), **found}
    if step.stage is not None and step.stage.name == "search":
        recorded["is_exact"] = is_exact(configuration["index"])
    if step.stage is not None and step.stage.makes == "run":
        write_ir_metadata(folder / RUN, recorded, tag="irexp", name=step.name)
    return recorded


def _make_share(step: Step, identity: Identity, store: Store, inputs: list[Any]) -> tuple[Outcome, Any]:
    """Make a share of an artifact, which another process completes."""
    assert step.stage is not None
    start = time.perf_counter()
    with _reporting_full_disk(store.root), store.sharing(identity) as making:
        if making.found is not None:
            return _already_done(step, making.found), making.found.measures
        log.info("%s: making a share of %s", step.stage.name, step.name)
        built(step.experiment.stage_node(step.stage.name))(making.folder, *inputs)
    seconds = round(time.perf_counter() - start, 2)
    return Outcome(step.stage.name, "made a share", str(making.folder), seconds), {}


def _help(step: Step, identity: Identity, store: Store, inputs: list[Any]) -> tuple[Outcome, Any]:
    """On the other nodes: make a share of what all nodes make together, then wait for the first node."""
    assert step.stage is not None
    with store.helping(identity, shares=step.stage.shared) as making:
        if making.found is None:
            log.info("%s: helping to make %s", step.stage.name, step.name)
            built(step.experiment.stage_node(step.stage.name))(making.folder, *inputs)
    assert making.found is not None
    return _already_done(step, making.found), making.found.measures


def says_full(error: Exception) -> bool:
    """Whether an error tells of a full disk, of whatever type it is."""
    return any(os.strerror(number) in str(error) for number in _FULL)


@contextmanager
def _reporting_full_disk(root: Path) -> Iterator[None]:
    """Report a full disk as such; libraries raise various errors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not says_full(error) and shutil.disk_usage(root).free > _SPACE:
            raise
        raise UserError(
            f"no space is left on the disk of {root.resolve()}, or in your quota ({error}); free some, or set "
            f"paths.artifacts to another disk. The same command resumes where this one stopped."
        ) from error


def _compare(step: Step, changed: list[str] | None) -> None:
    """Log whether a forced artifact has the same content as before."""
    if changed is None or step.artifact is None or step.artifact.kind == "speed":  # two measurements always differ
        return
    if not changed:
        log.info("force: %s has the same content as before", step.name)
        return
    log.warning(
        "force: %s has different content than before, in %s; artifacts made from the old one are unchanged, so force "
        "their stages, too",
        step.name,
        ", ".join(changed),
    )


def _already_done(step: Step, found: Found) -> Outcome:
    return Outcome(step.stage.name if step.stage else "", "already done", str(found.place), 0.0, found.measures)


def announce(outcome: Outcome) -> None:
    """Log a line about a stage, with its artifact, seconds and measures."""
    measures = "  ".join(
        f"{name} {value:,.0f}" if value.is_integer() else f"{name} {value:.4f}"
        for name, value in outcome.measures.items()
    )
    seconds = f" in {outcome.seconds:.1f} s" if outcome.status == "made" else ""
    again = "; to measure again: force=[speed]" if (outcome.stage, outcome.status) == ("speed", "already done") else ""
    log.info("%s: %s%s%s  %s  %s", outcome.stage, outcome.status, again, seconds, outcome.path or "", measures)
