"""Make what a plan lacks, in its order: each step's inputs are there before its stage is called.

Nothing that is there is made again, unless it is forced; nothing is begun if something is missing that this job may not
make.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irexp.artifact.identity import Identity
from irexp.artifact.manifest import DamagedArtifactError
from irexp.artifact.plan import Plan, Step
from irexp.artifact.provenance import provenance
from irexp.artifact.stages import Own, This
from irexp.artifact.store import Found, MissingArtifactError, Store
from irexp.pipeline.component import built
from irexp.pipeline.machine import is_helper
from irexp.stage.card import write_card
from irexp.stage.explain import missing
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Bytes of free space below which an error is one of a full disk, whatever the library says.
_SPACE = 2**20


@dataclass
class Outcome:
    """What became of a stage.

    Attributes:
        stage: its name.
        status: made, already done, or done (it makes no artifact).
        path: where the artifact lies.
        seconds: how long this took now.
        measures: what the stage measured, now or when it was made.
    """

    stage: str
    status: str
    path: str | None = None
    seconds: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)


def steps_to_run(plan: Plan, store: Store) -> tuple[list[Step], dict[Step, Found]]:
    """The steps that a job runs, in order: what was asked for and is missing, and what that needs.

    Returns:
        The steps, and what was found of these and of what they need.

    Raises:
        DamagedArtifactError: if something that is needed is not as it was written.
        MissingArtifactError: naming the stage that makes what is missing and may not be made here.
    """
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
        # of what may not be made, the first of the same experiment is named
        waiting += [s for s in step.needs if step in plan.makes or s.experiment is step.experiment]
    for step in wanted:  # what is handed only if it is there
        found |= {before: store.look(before.artifact) for _, before in step.before if before not in found}
    for step in plan.steps:
        fault = found[step].fault if step in found else None
        if fault is not None and step not in plan.forced:
            raise DamagedArtifactError(fault)
        if step in wanted and step not in plan.makes:
            raise MissingArtifactError(missing(plan, step, store))
    return [step for step in plan.steps if step in wanted], found


def execute(plan: Plan, store: Store, output: Path, *, logger: Any = None) -> Iterator[tuple[Step, Outcome, Any]]:
    """Run what a plan lacks and say what became of each step that is run or was asked for, as it comes.

    Args:
        plan: what is to be there in the end.
        store: where artifacts lie.
        output: the job's folder, for stages that make no artifact.
        logger: the job's tracker, for stages that take one.

    Yields:
        The step, its outcome, and what its function returned, or what it measured when it was made.
    """
    wanted, found = steps_to_run(plan, store)
    for step in plan.steps:
        if step in wanted:
            inputs = [_handed(step, name, found) for name in _taken(step)]
            outcome, result = _run(step, inputs, store, output, logger, is_forced=step in plan.forced)
            found[step] = Found("complete", Path(outcome.path) if outcome.path else None, outcome.measures)
            gc.collect()  # models of earlier steps must not crowd the next one's memory
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


def _handed(step: Step, name: str, found: dict[Step, Found]) -> Any:
    """What a stage is handed of an input: where it lies, the name of a hub model, or the experiment itself."""
    assert step.stage is not None
    inputs, source = step.inputs[name], step.stage.inputs[name]
    if isinstance(source, This):
        return step.experiment
    if isinstance(inputs, tuple):
        return [found[one].place for one in inputs]
    return found[inputs].place if inputs is not None else None


def _run(
    step: Step, inputs: list[Any], store: Store, output: Path, logger: Any, *, is_forced: bool
) -> tuple[Outcome, Any]:
    """Call a step's stage."""
    assert step.stage is not None
    stage, config = step.stage, step.experiment.config
    start = time.perf_counter()
    if not isinstance(step.artifact, Identity):
        result = built(config.stage[stage.name])(output, *inputs)
        return Outcome(stage.name, "done", None, round(time.perf_counter() - start, 2)), result
    if is_helper(config.machine):
        return _help(step, step.artifact, store, inputs)
    log.info("%s: making %s (%s)", stage.name, step.name, step.reason)
    with (
        _naming_a_full_disk(store.root),
        store.making(step.artifact, resumes=stage.resumes, again=is_forced) as making,
    ):
        if making.found is None:
            call = built(config.stage[stage.name])
            measures = call(making.folder, *inputs, **({"logger": logger} if stage.logged else {}))
            seconds = round(time.perf_counter() - start, 2)
            making.provenance = _record(step, making.folder, store, measures, seconds)
    if making.found is not None:  # another process made it meanwhile
        return _already_done(step, making.found), making.found.measures
    if is_forced:
        _compare(step, making.changed)
    return Outcome(stage.name, "made", str(store.folder(step.artifact)), seconds, measures), measures


def _record(step: Step, folder: Path, store: Store, measures: dict[str, float], seconds: float) -> dict[str, Any]:
    """What made an artifact; a checkpoint says it in a card, too."""
    configuration = plain(step)
    if step.stage is not None and step.stage.makes == "checkpoint":
        write_card(folder, configuration, name=step.name, root=store.root, validation=measures)
    return {
        "measures": measures,
        **provenance(
            overrides=list(step.experiment.overrides),
            options=dict(step.experiment.options),
            configuration=configuration,
            seconds=seconds,
        ),
    }


def _help(step: Step, identity: Identity, store: Store, inputs: list[Any]) -> tuple[Outcome, Any]:
    """What the other nodes do: their share of what all make together; then they wait for the first one."""
    assert step.stage is not None
    with store.helping(identity, shares=step.stage.shared) as making:
        if making.found is None:
            log.info("%s: helping to make %s", step.stage.name, step.name)
            built(step.experiment.config.stage[step.stage.name])(making.folder, *inputs)
    assert making.found is not None
    return _already_done(step, making.found), making.found.measures


@contextmanager
def _naming_a_full_disk(root: Path) -> Iterator[None]:
    """Say in words that there is no space; libraries raise it as various errors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if os.strerror(errno.ENOSPC) not in str(error) and shutil.disk_usage(root).free > _SPACE:
            raise
        raise UserError(
            f"no space is left on the disk of {root.resolve()} ({error}); make some, or set paths.artifacts to another "
            f"disk. The same command resumes where this one stopped."
        ) from error


def _compare(step: Step, changed: list[str] | None) -> None:
    """Say whether what was made again is what it was."""
    if changed is None:
        return
    if not changed:
        log.info("force: %s has the same content as before", step.name)
        return
    log.warning(
        "force: %s has another content than before, in %s; what was made from the old one is unchanged, so force its "
        "stages, too",
        step.name,
        ", ".join(changed),
    )


def _already_done(step: Step, found: Found) -> Outcome:
    return Outcome(step.stage.name if step.stage else "", "already done", str(found.place), 0.0, found.measures)


def announce(outcome: Outcome) -> None:
    """One line about a stage, with its artifact, seconds and measures."""
    measures = "  ".join(
        f"{name} {value:,.0f}" if value.is_integer() else f"{name} {value:.4f}"
        for name, value in outcome.measures.items()
    )
    seconds = f" in {outcome.seconds:.1f} s" if outcome.status == "made" else ""
    log.info("%s: %s%s  %s  %s", outcome.stage, outcome.status, seconds, outcome.path or "", measures)


def plain(step: Step) -> dict[str, Any]:
    """The experiment's resolved configuration, with the names of the artifacts that it uses."""
    left_out = ("stage", "force", "dry_run", "confirm")  # what the stages are made of stands beside it already
    configuration = {key: value for key, value in step.experiment.values.items() if key not in left_out}
    return {**configuration, "artifact": {**configuration["artifact"], **step.names}}
