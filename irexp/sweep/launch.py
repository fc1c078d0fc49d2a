"""Launch the jobs of a sweep: compose each, make what all of them need as one graph, then run each as usual."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, env_override, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from irexp.artifact.hardware import usable_processors
from irexp.artifact.plan import make_plan
from irexp.config.check import ConfigError
from irexp.stage.job import experiment_of
from irexp.stage.job import run_job as run_task
from irexp.stage.track_name import group_of, swept_overrides
from irexp.sweep.graph import LEFT_TO_JOBS, Graph, Planned, divided, merge
from irexp.sweep.make import Place
from irexp.sweep.runner import Runner, run_graph
from irexp.sweep.worker import Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What Hydra gives to a launcher.

    Attributes:
        context: Hydra's loader of configurations, and its callbacks.
        task: the function that runs a job.
        config: the configuration of the sweep, with Hydra's own node.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig


#: Starts what makes the tasks of a sweep, given where, and the jobs' configurations.
Start = Callable[[Place, Sequence[DictConfig]], Runner]


def launch(
    sweep: Sweep, job_overrides: Sequence[Sequence[str]], first: int, start: Start, *, shares: int = 1
) -> list[JobReturn]:
    """Make all that the jobs need, each artifact once, and then run the jobs, which find it made.

    Args:
        sweep: what Hydra gave.
        job_overrides: the overrides of each job.
        first: the number of the first job.
        start: starts what makes the tasks.
        shares: the tasks that make an artifact whose stage can be divided.

    Returns:
        What Hydra expects of each job, in the same order.
    """
    setup_globals()
    hydra = sweep.config.hydra
    configure_log(hydra.hydra_logging, hydra.verbose)
    output = Path(hydra.sweep.dir)
    output.mkdir(parents=True, exist_ok=True)
    jobs = {number: _composed(sweep, overrides, number) for number, overrides in enumerate(job_overrides, first)}
    try:
        _check(jobs)
        graph = merge(_plans(jobs))
        failures = _make_all(graph, output, list(jobs.values()), start, shares)
    except ConfigError as error:
        sys.exit(f"ConfigError: {error}")
    except (KeyboardInterrupt, SystemExit):
        log.error("stopped; the same command makes only what is missing")
        raise
    returns = []
    for number, config in jobs.items():
        failure = next((failures[key] for key in graph.jobs.get(number, ()) if key in failures), None)
        log.info("\t#%d : %s", number, " ".join(filter_overrides(job_overrides[number - first])))
        task = partial(run_task, failure=failure) if failure else partial(_run, task=sweep.task)
        returns.append(
            run_job(
                hydra_context=sweep.context,
                task_function=task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        )
        configure_log(hydra.hydra_logging, hydra.verbose)  # a job has replaced it by its own
    return returns


def start_workers(place: Place, configs: Sequence[DictConfig], *, count: int) -> Runner:
    """Worker processes of this machine, which share its GPUs, or else its threads."""
    machines = [config.machine for config in configs]
    threads = max(1, usable_processors() // count) if count > 1 else None
    gpus = _gpus() if any(machine.accelerator in ("auto", "gpu") for machine in machines) else []
    several = max(machine.devices for machine in machines)
    groups = [",".join(gpus[i : i + several]) for i in range(0, len(gpus) - several + 1, several)]
    if groups and count > len(groups):
        log.warning(
            "%d workers share %d GPUs; with hydra.launcher.workers=%d each has its own", count, len(gpus), len(groups)
        )
    return Workers(replace(place, threads=threads), count=count, gpus=groups)


def _gpus() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = torch.cuda.device_count()  # of those that are named, if any are
    return (named or [str(number) for number in range(count)])[:count]


def _composed(sweep: Sweep, overrides: Sequence[str], number: int) -> DictConfig:
    """The configuration of a job, with Hydra's own node."""
    config = sweep.context.config_loader.load_sweep_config(sweep.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    return config


def _check(jobs: Mapping[int, DictConfig]) -> None:
    """Refuse what one graph cannot do.

    Raises:
        ConfigError: naming the setting.
    """
    faults = []
    for config in jobs.values():
        if config.machine.num_nodes > 1:
            faults.append(
                f"machine.num_nodes={config.machine.num_nodes}: this launcher uses one node per step; leave it 1, or "
                f"use hydra/launcher=basic"
            )
    if faults:
        raise ConfigError(faults)


def _plans(jobs: Mapping[int, DictConfig]) -> dict[int, Planned]:
    """The plan of each job that has one; the others meet their error again when they run, and record it."""
    found: dict[int, Planned] = {}
    before = HydraConfig.instance().cfg
    for number, config in jobs.items():
        HydraConfig.instance().set_config(config)
        own = copy.deepcopy(config)
        with open_dict(own):
            del own["hydra"]
        variables = OmegaConf.to_container(config.hydra.job.env_set, resolve=True)
        assert isinstance(variables, dict)
        environment = {str(name): str(value) for name, value in variables.items()}
        try:
            with env_override(environment):
                experiment = experiment_of(own, config.hydra)
                if not experiment.values["dry_run"]:
                    plan = make_plan(experiment, experiment.stages)
                    swept = swept_overrides(experiment.overrides, Path(config.hydra.sweep.dir))
                    found[number] = Planned(plan, environment, tuple(swept))
        except Exception as error:
            log.info("graph: job %d takes no part: %s", number, str(error).partition("\n")[0])
        finally:
            HydraConfig.instance().cfg = before
    return found


def _make_all(graph: Graph, output: Path, configs: Sequence[DictConfig], start: Start, shares: int) -> dict[str, str]:
    """Make the tasks of a graph; returns the error of each that failed."""
    if not graph.tasks:
        return {}
    log.info("graph: %d artifacts to make for %d jobs; logs are in %s", len(graph.tasks), len(configs), output)
    runner = start(Place(output.absolute(), tuple(sys.argv), group=group_of(output)), configs)
    is_shown = any(config.machine.progress for config in configs)
    return run_graph(divided(graph.tasks, shares), runner, is_shown=is_shown, file=output / "progress.txt")


def _run(config: DictConfig, *, task: TaskFunction) -> object:
    """Run a job whose forced steps are made."""
    config.force = [name for name in config.force if name in LEFT_TO_JOBS]
    return task(config)
