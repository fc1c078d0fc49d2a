"""One job under Hydra: plan, execution, and a record of the outcome."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.experiment import Experiment, search_path
from irexp.artifact.git import own_state
from irexp.artifact.plan import make_plan
from irexp.artifact.store import Store
from irexp.stage.execute import Outcome, execute
from irexp.stage.explain import tree
from irexp.stage.sweep import report_sweep
from irexp.stage.track import tracked
from irexp.training.signals import status_of
from irexp.types import UserError

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A job's record, kept as summary.json in its output folder."""

    overrides: list[str]
    outcome: str = "running"
    error: str | None = None
    seconds: float = 0.0
    stages: list[Outcome] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the record of the job so far."""
        (folder / "summary.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf8")


def run_job(config: DictConfig) -> None:
    """Run a job and record its outcome.

    A failing job of a sweep does not stop the others: it is recorded, and the sweep ends with a list of failures. A job
    that is stopped by SIGINT (Ctrl-C) or SIGTERM ends the sweep, with this list, and the program, with 130 or 143.
    """
    hydra = HydraConfig.get()
    output = Path(hydra.runtime.output_dir)
    typed = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # an item of the list would be resolved
    assert isinstance(typed, list)
    job = Job(overrides=[str(override) for override in typed])
    start = time.perf_counter()
    try:
        options = {group: str(option) for group, option in hydra.runtime.choices.items() if "hydra" not in group}
        overrides = (*search_path(hydra.overrides.hydra), *job.overrides)
        run_stages(Experiment(overrides, config, options), job, output)
        job.outcome = "done"
    except (KeyboardInterrupt, SystemExit) as error:
        job.outcome = "stopped"
        log.error("stopped; the same command resumes where it was")
        sys.exit(status_of(error))
    except Exception as error:
        job.outcome, job.error = "failed", f"{type(error).__name__}: {error}"
        log.error("%s", job.error if isinstance(error, UserError) else traceback.format_exc())
    finally:
        job.seconds = round(time.perf_counter() - start, 2)
        job.save(output)
        if job.outcome == "stopped" and hydra.mode == RunMode.MULTIRUN:
            report_sweep(output.parent)
    if job.outcome == "failed" and hydra.mode != RunMode.MULTIRUN:
        sys.exit(1)


def run_stages(experiment: Experiment, job: Job, output: Path) -> None:
    """Plan the stages of an experiment and make what is missing; a dry run only prints the plan."""
    plan = make_plan(experiment, experiment.stages)
    store = Store(experiment.root)
    if experiment.values["dry_run"]:
        states = {step: store.look(step.artifact).state for step in plan.steps}
        log.info("the plan of this command (dry run: nothing is made):\n\n%s\n", tree(plan, store, states))
        return
    if plan.skipped:
        log.info("nothing to do: %s", "; ".join(f"{name}, {reason}" for name, reason in plan.skipped.items()))
    if (code := own_state()) is not None:
        code.save(output)
    with tracked(plan, store, output) as tracker:
        for step, outcome, result in execute(plan, store, output, logger=tracker.loggers if tracker else None):
            if step in plan.own and step.artifact is not None:
                job.stages.append(outcome)
                job.save(output)
            if tracker:
                tracker.record(step, outcome, result)
