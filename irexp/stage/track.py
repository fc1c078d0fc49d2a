"""The trackers of a job: what they are told before, during and after its stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from irexp.artifact.identity import Given, Identity
from irexp.artifact.plan import Plan, Step
from irexp.artifact.store import Store
from irexp.config.built import built
from irexp.pipeline.machine import is_helper
from irexp.stage.execute import Outcome
from irexp.training.signals import status_of

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from irexp.training.outcome import TrackedArtifact
    from irexp.training.tracking import TrackedJob

#: Settings that say where a job runs and not what it makes: another machine resumes the same run.
_NOT_THE_JOB = {"machine", "logger", "paths", "hydra", "dry_run", "confirm", "stage"}

#: The most characters that wandb shows of a run's name.
_LONGEST_NAME = 128


@dataclass
class JobTracker:
    """The trackers of a job, which are told about each step as it ends.

    Attributes:
        loggers: Lightning's, to which the training also writes its curves.
        plan: the job's plan.
        store: where its artifacts are.
        configuration: the configuration that is shown.
        measures: the measures that were logged so far.
    """

    loggers: list[Logger]
    plan: Plan
    store: Store
    configuration: dict[str, Any]
    measures: dict[str, float] = field(default_factory=dict)
    _known: set[Step] = field(default_factory=set)

    def record(self, step: Step, outcome: Outcome, result: Any) -> None:
        """Log the measures, tables and artifact of a step that has ended."""
        from irexp.training.outcome import log_measures, log_per_query, log_table

        is_own = step in self.plan.own
        if step.artifact is not None:
            self._log_artifact(step, outcome.measures, is_input=not is_own and outcome.status != "made")
        measures = shown_measures(outcome) if is_own else {}
        if measures:
            self.measures |= measures
            for logger in self.loggers:
                log_measures(logger, measures)
        if is_own and outcome.stage == "evaluate" and outcome.path is not None:
            from irexp.evaluation.measures import load_measured

            measured = load_measured(Path(outcome.path))
            for logger in self.loggers:
                log_per_query(logger, str(self.configuration["dataset"]["name"]), measured)
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
        for logger in self.loggers:
            log_artifact(logger, _tracked(step, self.store, measures), is_input=is_input)


def shown_measures(outcome: Outcome) -> dict[str, float]:
    """The measures of a stage as trackers show them: `test/…`, and `validation/best` whatever the measure is."""
    if outcome.stage == "evaluate":
        return {f"test/{name}": value for name, value in outcome.measures.items()}
    if outcome.stage != "fit":
        return {}
    best = [value for name, value in outcome.measures.items() if name.startswith("validation/")]
    return {"validation/best": best[0], "validation/best_step": outcome.measures["steps"]} if best else {}


@contextmanager
def tracked(plan: Plan, store: Store, output: Path, *, group: str | None = None) -> Iterator[JobTracker | None]:
    """The trackers of a job, closed when it ends: as failed after an error. None without any.

    Args:
        plan: what the job makes.
        store: where its artifacts are.
        output: the folder that trackers write to.
        group: the sweep's folder, in a process that makes a part of a sweep and knows nothing of Hydra's job.
    """
    config = plan.experiment.config
    if config.logger is None or is_helper(config.machine):
        yield None
        return
    from irexp.training.outcome import finish, log_configuration

    names = {name: found for step in plan.own for name, found in step.names.items()}
    configuration = {**plan.experiment.recorded, "artifact": names}
    nodes = [config.logger] if "_target_" in config.logger else list(config.logger.values())
    loggers = [built(node)(output, describe(plan, group)) for node in nodes]
    tracker = JobTracker(loggers, plan, store, configuration)
    exit_code = 0
    try:
        for logger in loggers:
            log_configuration(logger, configuration)
        yield tracker
    except (KeyboardInterrupt, SystemExit) as error:
        status = status_of(error)
        exit_code = status if isinstance(status, int) else 1
        raise
    except BaseException:
        exit_code = 1
        raise
    finally:
        for logger in loggers:
            finish(logger, configuration, tracker.measures, exit_code=exit_code)


def describe(plan: Plan, group: str | None = None) -> TrackedJob:
    """How trackers show a job; the jobs of a sweep form a group, and each is named after what was swept."""
    from irexp.training.tracking import TrackedJob

    experiment = plan.experiment
    typed = [override for override in experiment.overrides if _group(override) not in _NOT_THE_JOB]
    settings = {"artifacts": sorted(step.name for step in plan.goals), "stages": experiment.stages, "typed": typed}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    option = experiment.options.get("stage", "")
    stages = option if option and not option.startswith("[") else "+".join(experiment.stages)
    name = f"{experiment.recorded['model']['name']}.{experiment.recorded['dataset']['name']}"
    if not HydraConfig.initialized():
        return TrackedJob(digest, name[:_LONGEST_NAME], stages, group)
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return TrackedJob(digest, name[:_LONGEST_NAME], stages)
    folder = Path(hydra.sweep.dir)
    swept = " ".join(swept_overrides(hydra.overrides.task, folder))
    return TrackedJob(digest, (swept or name)[:_LONGEST_NAME], stages, folder.as_posix())


def swept_overrides(overrides: Sequence[str], sweep: Path) -> list[str]:
    """The overrides in which the jobs of a sweep differ, by what Hydra recorded of it in its folder."""
    file, parser = sweep / "multirun.yaml", OverridesParser.create()
    own = {override: parser.parse_override(override).get_key_element() for override in overrides}
    if not file.is_file():  # with another sweeper
        return list(own)
    recorded = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(recorded, dict)
    typed = parser.parse_overrides([str(override) for override in recorded["hydra"]["overrides"]["task"]])
    fixed = {override.get_key_element() for override in typed if not override.is_sweep_override()}
    return [override for override, key in own.items() if key not in fixed]


def _group(override: str) -> str:
    """The first part of an override's key."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0].partition(".")[0]


def _tracked(step: Step, store: Store, measures: dict[str, float]) -> TrackedArtifact:
    from irexp.training.outcome import TrackedArtifact

    artifact = step.artifact
    assert artifact is not None
    folder = store.folder(artifact) if isinstance(artifact, Identity) else artifact.path
    made_from = [before.name for _, before in step.before if before.artifact is not None]
    assert isinstance(artifact, Identity | Given)
    return TrackedArtifact(step.name, artifact.kind, folder, made_from, measures)
