"""One job under Hydra: plan, execution, and a record of the outcome."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.experiment import Experiment, search_path
from irexp.artifact.git import own_state
from irexp.artifact.objective import objective, objective_names
from irexp.artifact.plan import Placed, Plan, Step, make_plan
from irexp.artifact.store import Store
from irexp.config.built import built
from irexp.stage.execute import Outcome, execute, missing_steps, says_full
from irexp.stage.explain import tree
from irexp.stage.files import require_files
from irexp.stage.resources import require_resources, unknown_commits
from irexp.stage.sweep import RECORD, write_record
from irexp.stage.track import StepError, error_text, planning_tracked, tracked
from irexp.study.trial import RunningTrial, is_pruned, trial_of
from irexp.training.signals import status_of
from irexp.types import UserError

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A job's record, kept as summary.json in its output folder.

    Attributes:
        overrides: as typed.
        number: of a job of a sweep.
        outcome: running, done, failed, pruned or stopped.
        error: of a failed job.
        seconds: how long it took.
        stages: the outcomes of its stages.
        cells: the measures of its table, baselines included.
    """

    overrides: list[str]
    number: int | None = None
    outcome: str = "running"
    error: str | None = None
    seconds: float = 0.0
    stages: list[Outcome] = field(default_factory=list)
    cells: list[Placed] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the record of the job so far.

        Raises:
            UserError: if it cannot be written.
        """
        try:
            write_record(folder / RECORD, asdict(self))
        except OSError as error:
            raise UserError(
                f"no record of the job can be written into {folder} ({error.strerror}); free some space there, or name "
                f"another folder by hydra.run.dir, of a sweep by hydra.sweep.dir"
            ) from error


def run_job(config: DictConfig, *, failure: str | None = None) -> float | list[float] | None:
    """Run a job, record its outcome, and return its objective to the sweeper.

    A failing job of a sweep does not stop the others: it is recorded, and the sweep ends with a list of failures. A job
    that is stopped by SIGINT (Ctrl-C) or SIGTERM ends the sweep, with this list, and the program, with 130 or 143.

    Args:
        config: the composed configuration, without Hydra's own node.
        failure: why the job has failed already, in a sweep whose steps are made before its jobs; then nothing is run.

    Returns:
        The measure that `objective` names, or a list of several; None after a failure, and if nothing is measured.

    Raises:
        TrialPruned: Optuna's exception, if the sweeper prunes this job.
    """
    hydra: Any = HydraConfig.get()
    output = Path(hydra.runtime.output_dir)
    is_sweep = hydra.mode == RunMode.MULTIRUN
    job = Job(_typed(hydra), number=OmegaConf.select(hydra.job, "num") if is_sweep else None)
    start = time.perf_counter()
    if not is_sweep and (params := hydra.sweeper.get("params")):
        log.warning("without -m, one job runs; the sweep over %s is ignored", ", ".join(map(str, params)))
    found = None
    try:
        job.save(output)  # running, which it remains if its process is killed
        with planning_tracked(config, job.overrides, output):
            experiment = experiment_of(config, hydra)
        is_searched = _is_searched(hydra)
        found = run_stages(
            experiment, job, output, trial=trial_of(hydra.sweeper), is_searched=is_searched, failure=failure
        )
        job.outcome = "done"
    except (KeyboardInterrupt, SystemExit) as error:
        job.outcome = "stopped"
        log.error("stopped; the same command resumes where it was")
        sys.exit(status_of(error))
    except Exception as error:
        if is_pruned(error):
            job.outcome = "pruned"
            log.info("pruned: %s", error)
            raise
        job.outcome, job.error = "failed", error_text(error)
        is_clear = isinstance(error, UserError) or says_full(error)
        log.error("%s", job.error if is_clear else traceback.format_exc())
    finally:
        job.seconds = round(time.perf_counter() - start, 2)
        try:
            job.save(output)
        except UserError as error:
            if job.outcome == "done":
                job.outcome = "failed"
            if str(error) not in (job.error or ""):
                log.error("%s", error)
    if job.outcome == "failed" and not is_sweep:
        sys.exit(1)
    return found


def experiment_of(config: DictConfig, hydra: Any) -> Experiment:
    """The experiment of a job.

    Args:
        config: the composed configuration, without Hydra's own node.
        hydra: that node, which knows what was typed.

    Raises:
        ConfigError: naming every fault.
    """
    options = {group: str(option) for group, option in hydra.runtime.choices.items() if "hydra" not in group}
    return Experiment((*search_path(hydra.overrides.hydra), *_typed(hydra)), config, options)


def _is_searched(hydra: Any) -> bool:
    """Whether the job is one of a sweeper that uses what it returns, unlike Hydra's own."""
    return hydra.mode == RunMode.MULTIRUN and not str(hydra.sweeper.get("_target_")).endswith(".BasicSweeper")


def _typed(hydra: Any) -> list[str]:
    """The overrides that were typed, for this job of a sweep."""
    typed = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # an item of the list would be resolved
    assert isinstance(typed, list)
    return [str(override) for override in typed]


def run_stages(
    experiment: Experiment,
    job: Job,
    output: Path,
    *,
    trial: RunningTrial | None = None,
    is_searched: bool = False,
    failure: str | None = None,
) -> float | list[float] | None:
    """Plan the stages of an experiment and make what is missing; a dry run only prints the plan.

    Args:
        experiment: with the stages that were asked for.
        job: the job's record, which is added to.
        output: the job's folder.
        trial: see `irexp.stage.execute.execute`.
        is_searched: whether a sweeper searches for its objective.
        failure: see `run_job`.

    Returns:
        The objective; None after a dry run, and if nothing is measured.

    Raises:
        StepError: the failure, if there is one.
    """
    with planning_tracked(experiment.config, experiment.overrides, output):
        plan = make_plan(experiment, experiment.stages)
        names = objective_names(plan, is_needed=is_searched)
    store = Store(experiment.root)
    if experiment.values["dry_run"]:
        _preview(plan, store, output)
        return None
    if plan.skipped:
        log.info("nothing to do: %s", "; ".join(f"{name}, {reason}" for name, reason in plan.skipped.items()))
    if (code := own_state()) is not None:
        code.save(output)
    measured: dict[Step, dict[str, float]] = {}
    with tracked(plan, store, output) as tracker:
        if failure is not None:
            raise StepError(failure)
        logger_of = tracker.loggers_of if tracker else lambda step: None
        for step, outcome, result in execute(plan, store, output, logger_of=logger_of, trial=trial):
            measured[step] = outcome.measures
            if step in plan.own and step.artifact is not None:
                job.stages.append(outcome)
                job.save(output)
            job.cells += [
                Placed(Path(outcome.path), row, column)
                for row, column, measures in plan.cells
                if measures is step and outcome.path is not None
            ]
            if tracker:
                tracker.record(step, outcome, result)
    return objective(names, plan, measured)


def _preview(plan: Plan, store: Store, output: Path) -> None:
    """Log the plan, and what its stages say that they would do; nothing is made or fetched.

    Raises:
        UserError: if a file that the command would read is missing, or of no use.
    """
    require_resources(plan.steps, package="irexp.dataset.")  # without torch, for which a plan does not wait
    missing, _ = missing_steps(plan, store)
    require_files([step for step in plan.steps if step in missing and step in plan.makes])
    steps = [step for step in plan.own if step.stage is not None and step.stage.previews]
    for step in steps:
        assert step.stage is not None
        built(step.experiment.config.stage[step.stage.name])(output, step.experiment)
    if len(steps) == len(plan.steps):
        return
    states = {step: store.look(step.artifact).state for step in plan.steps}
    log.info("the plan of this command (dry run: nothing is made):\n\n%s\n", tree(plan, store, states))
    if unknown := unknown_commits(plan.steps):
        log.info("not fetched yet, so the names above may change: %s; stage=prepare fetches them", ", ".join(unknown))
