"""The trackers of a job: what they are told before, during and after its stages.

How a job is named and grouped is in `irexp.stage.track_name`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from irexp.artifact.identity import Given, Identity
from irexp.artifact.plan import Plan, Step
from irexp.artifact.store import Store
from irexp.config.built import built
from irexp.pipeline.machine import is_helper
from irexp.stage.execute import Outcome
from irexp.stage.track_name import curve_title, describe, stage_titles, titled_names
from irexp.study.trial import is_pruned
from irexp.training.tracked_job import Ending, TrackedJob
from irexp.types import UserError

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from irexp.evaluation.table import Table
    from irexp.training.outcome import Shown, TrackedArtifact

log = logging.getLogger(__name__)


class StepError(UserError):
    """Why a job has failed already, in a sweep whose steps are made before its jobs."""


@dataclass
class JobTracker:
    """The trackers of a job, which are told about each step as it ends.

    Attributes:
        loggers: Lightning's, to which the training also writes its curves.
        plan: the job's plan.
        store: where its artifacts are.
        shown: what was logged so far.
    """

    loggers: list[Logger]
    plan: Plan
    store: Store
    shown: Shown
    _known: set[Step] = field(default_factory=set)

    def loggers_of(self, step: Step) -> list[Logger]:
        """What a training writes its curves to: under a name of their own if the job has several trainings."""
        from irexp.training.tracking import TitledLogger

        title = curve_title(self.plan, step)
        return self.loggers if title is None else [TitledLogger(self.loggers, title)]

    def record(self, step: Step, outcome: Outcome, result: Any) -> None:
        """Log the measures, tables and artifact of a step that has ended."""
        from irexp.training.outcome import log_measures, log_per_query, log_table

        is_own = step in self.plan.own
        if step.artifact is not None:
            self._log_artifact(step, outcome.measures, is_input=not is_own and outcome.status != "made")
        titles = stage_titles(self.plan, step) if is_own else []
        for title in titles:
            if measures := shown_measures(outcome, title):
                self.shown.measures |= measures
                for logger in self.loggers:
                    log_measures(logger, measures)
        if is_own and outcome.stage == "evaluate" and outcome.path is not None:
            from irexp.evaluation.measures import load_measured

            measured = load_measured(Path(outcome.path))
            for title in titles:
                for logger in self.loggers:
                    log_per_query(logger, title or str(step.experiment.recorded["dataset"]["name"]), measured)
        if outcome.stage == "report":
            for logger in self.loggers:
                log_table(logger, "results", result)

    def _log_artifact(self, step: Step, measures: dict[str, float], *, is_input: bool) -> None:
        from irexp.training.outcome import log_artifact

        if step in self._known:
            return
        self._known.add(step)
        if not is_input:  # inputs that exist already are no step of the job
            for _, before in step.before:
                if before.artifact is not None and self.store.look(before.artifact).state in ("complete", "given"):
                    self._log_artifact(before, {}, is_input=True)
        artifact = _tracked(step, self.store, measures, is_input=is_input)
        self.shown.artifacts.append(artifact)
        for logger in self.loggers:
            log_artifact(logger, artifact)


def shown_measures(outcome: Outcome, title: str | None = None) -> dict[str, float]:
    """The measures of a stage as trackers show them: `test/…`, and `validation/best` whatever the measure is.

    Args:
        outcome: of the stage.
        title: a part of these names where a job has several such stages: `test/<title>/…`.
    """
    from irexp.training.tracking import titled

    found: dict[str, float] = {}
    if outcome.stage == "evaluate":
        found = {f"test/{name}": value for name, value in outcome.measures.items()}
    elif outcome.stage == "fit":
        best = [value for name, value in outcome.measures.items() if name.startswith("validation/")]
        found = {"validation/best": best[0], "validation/best_step": outcome.measures["steps"]} if best else {}
    return {titled(name, title): value for name, value in found.items()}


@contextmanager
def tracked(plan: Plan, store: Store, output: Path, job: TrackedJob | None = None) -> Iterator[JobTracker | None]:
    """The trackers of a job, closed when it ends: as failed after an error. None without any.

    Args:
        plan: what the job makes.
        store: where its artifacts are.
        output: the folder that trackers write to.
        job: how it is shown; None for a job of Hydra, which knows what was typed.
    """
    config = plan.experiment.config
    if config.logger is None or is_helper(config.machine):
        yield None
        return
    from irexp.training.outcome import Shown

    if job is None:
        job = describe(config, plan.experiment.overrides, artifacts=[step.name for step in plan.goals])
    shown = Shown({**plan.experiment.recorded, "artifact": titled_names(plan)})
    with _opened(config.logger, output, job, shown) as loggers:
        yield JobTracker(loggers, plan, store, shown)


@contextmanager
def planning_tracked(config: DictConfig, overrides: Sequence[str], output: Path) -> Iterator[None]:
    """In the block a job is planned: an error there is shown by its trackers, as the error of a failed job.

    Args:
        config: the composed configuration, in which anything may be wrong.
        overrides: as typed.
        output: the folder that trackers write to.
    """
    try:
        yield
    except Exception as error:
        node = OmegaConf.select(config, "logger")
        if node is not None and not config.dry_run and not is_helper(config.machine):
            _show_failed_plan(config, overrides, output, error)
        raise


def _show_failed_plan(config: DictConfig, overrides: Sequence[str], output: Path, error: Exception) -> None:
    from irexp.training.outcome import Shown

    configuration = OmegaConf.to_container(config, resolve=False)  # which may be what failed
    assert isinstance(configuration, dict)
    shown = Shown({str(key): value for key, value in configuration.items()})
    try:
        with _opened(config.logger, output, describe(config, overrides), shown):
            raise error
    except Exception as other:
        if other is not error:  # the error that matters is of the plan
            log.warning("the trackers do not show that this job failed: %s", other)


def track_table(config: DictConfig, table: Table, output: Path) -> None:
    """Log the table of all jobs of a sweep: as a run of its group.

    Args:
        config: of the sweep, with Hydra's own node, without what was swept.
        table: over all jobs.
        output: the sweep's folder.
    """
    if config.logger is None:
        return
    from irexp.training.outcome import Shown, log_table

    typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # an item would be resolved
    assert isinstance(typed, list)
    job = describe(config, list(map(str, typed)), table_of=output)
    configuration = OmegaConf.to_container(config, resolve=False)
    assert isinstance(configuration, dict)
    shown = Shown({str(key): value for key, value in configuration.items() if key != "hydra"})
    try:
        with _opened(config.logger, output, job, shown) as loggers:
            for logger in loggers:
                log_table(logger, "results", table)
    except Exception as error:  # such as a server that does not answer; the table is in the sweep's folder
        log.error("the trackers do not show the table of all jobs: %s", error)


@contextmanager
def _opened(node: DictConfig, output: Path, job: TrackedJob, shown: Shown) -> Iterator[list[Logger]]:
    """The loggers of a node of the configuration, which are told at the end how it came.

    What the job made is complete by then, so that one which cannot be closed is only warned of.
    """
    from irexp.training.outcome import finish, log_configuration

    nodes = [node] if "_target_" in node else list(node.values())
    loggers: list[Logger] = []
    ending = Ending("failed")
    try:
        for each in nodes:
            loggers.append(built(each)(output, job))
        for logger in loggers:
            log_configuration(logger, shown.configuration)
        yield loggers
        ending = Ending()
    except BaseException as error:
        ending = ending_of(error)
        raise
    finally:
        for logger in loggers:
            try:
                finish(logger, shown, ending)
            except Exception as error:
                log.warning(
                    "%s may lack the end of this job: %s: %s", type(logger).__name__, type(error).__name__, error
                )


def ending_of(error: BaseException) -> Ending:
    """How a job ended that raised an error."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return Ending("stopped", "stopped by a signal")
    if is_pruned(error):
        return Ending("pruned", str(error))
    return Ending("failed", error_text(error))


def error_text(error: BaseException) -> str:
    """An error in words, as a job's record and its trackers hold it."""
    return str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"


def _tracked(step: Step, store: Store, measures: dict[str, float], *, is_input: bool) -> TrackedArtifact:
    from irexp.training.outcome import TrackedArtifact

    artifact = step.artifact
    assert isinstance(artifact, Identity | Given)
    folder = store.folder(artifact) if isinstance(artifact, Identity) else artifact.path
    made_from = [before.name for _, before in step.before if before.artifact is not None]
    return TrackedArtifact(step.name, artifact.kind, folder, is_input, made_from, measures)
