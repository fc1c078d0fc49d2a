"""A graph as jobs of a Slurm cluster, one per artifact, by submitit; or as its local processes, to try it.

Each job names those that it needs, and Slurm begins it when they have succeeded, and removes it if one has failed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import env_override
from omegaconf import DictConfig

import irexp
from irexp.config.check import ConfigError
from irexp.config.installation import install_command
from irexp.sweep.graph import Task
from irexp.sweep.make import Place, attempt, set_up_logging
from irexp.sweep.resources import resources_of
from irexp.sweep.runner import Result, Runner

Cluster = Literal["slurm", "local"]


def start_jobs(
    place: Place,
    configs: Sequence[DictConfig],
    *,
    cluster: Cluster,
    workers: int,
    seconds: int,
    default: Mapping[str, Any],
    stages: Mapping[str, Mapping[str, Any]],
) -> Runner:
    """What submits the tasks of a sweep as jobs.

    Raises:
        ConfigError: if submitit or Slurm is missing, or resources are set for a stage that has no jobs.
    """
    resources, faults = resources_of(default, stages)
    if importlib.util.find_spec("submitit") is None:
        faults.append(f"hydra/launcher=slurm needs the package submitit: {install_command('slurm')}")
    absent = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if cluster == "slurm" and absent:
        faults.append(
            f"hydra/launcher=slurm: this machine has no {' and no '.join(absent)}; start the sweep on a login node of "
            f"the cluster, or try it here with hydra.launcher.cluster=local"
        )
    if faults:
        raise ConfigError(faults)
    return Jobs(place, resources, cluster=cluster, workers=workers, seconds=seconds)


class TaskError(RuntimeError):
    """A task failed, so that Slurm begins no job that depends on this one."""


class Attempt:
    """A task as submitit runs it; a job that is preempted is queued again, and resumes what it left."""

    def __call__(self, task: Task, place: Place) -> float:
        """Make the task's artifact; returns the seconds.

        Raises:
            TaskError: if that fails.
        """
        set_up_logging()
        seconds, error = attempt(task, place)
        if error is not None:
            raise TaskError(error)
        return seconds

    def checkpoint(self, task: Task, place: Place) -> Any:
        """What is queued again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task, place)


class Jobs:
    """The jobs of a graph.

    Attributes:
        is_early: whether the cluster keeps the order; submitit's local processes do not.
        count: how many run at a time; None if the cluster decides.
    """

    def __init__(
        self,
        place: Place,
        resources: Mapping[str, Mapping[str, Any]],
        *,
        cluster: Cluster,
        workers: int,
        seconds: float,
    ) -> None:
        """Nothing is submitted yet.

        Args:
            place: where tasks are made; submitit keeps its scripts, results and logs in the folder `jobs` there.
            resources: what the jobs of each stage ask for.
            cluster: slurm, or local for processes of this machine.
            workers: how many of the latter run at a time.
            seconds: between two looks at the jobs.
        """
        self.is_early = cluster == "slurm"
        self.count = None if self.is_early else workers
        self._place, self._resources, self._cluster, self._seconds = place, resources, cluster, seconds
        self._submitted: dict[str, Any] = {}
        self._waited_for: dict[str, Any] = {}

    @property
    def is_free(self) -> bool:
        """Whether another job may be submitted."""
        return self.count is None or len(self._waited_for) < self.count

    def start(self, task: Task) -> None:
        """Submit a task, after those that it needs."""
        import submitit

        needed = [self._submitted[key].job_id for key in sorted(task.needs)]
        executor = submitit.AutoExecutor(self._place.output / "jobs", cluster=self._cluster)
        executor.update_parameters(**self._parameters(task, needed))
        # a job starts in the folder of the command, where Python would not find a clone that is not installed
        path = os.pathsep.join([str(Path(irexp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        )
        with env_override({"PYTHONPATH": path}):
            job = executor.submit(Attempt(), task, self._place)
        self._submitted[task.key] = self._waited_for[task.key] = job

    def wait(self) -> list[Result]:
        """The jobs that have ended since the last look."""
        found = [self._result(key, job) for key, job in self._waited_for.items() if job.done()]
        for result in found:
            del self._waited_for[result.key]
        if not found:
            time.sleep(self._seconds)
        return found

    def drop(self, key: str) -> None:
        """Forget a job that Slurm removes, because one that it depends on has failed."""
        if (job := self._waited_for.pop(key, None)) is not None:
            job.cancel(check=False)

    def close(self) -> None:
        """Cancel the jobs that have not ended."""
        for job in self._waited_for.values():
            job.cancel(check=False)
        for job in self._waited_for.values() if self._cluster == "local" else ():
            job.wait()

    def _parameters(self, task: Task, needed: Sequence[str]) -> dict[str, Any]:
        asked = self._resources[task.stage]
        found: dict[str, Any] = {
            "name": f"irexp-{task.stage}",
            "timeout_min": asked["minutes"],
            "gpus_per_node": asked["gpus"],
            "cpus_per_task": asked["cpus"],
            "slurm_mem": asked["memory"],
            "slurm_partition": asked["partition"],
        }
        further = dict(asked["extra"])
        if needed:
            found["slurm_dependency"] = ":".join(["afterok", *needed])
            further["kill-on-invalid-dep"] = "yes"  # otherwise it would wait for ever
        return {**found, "slurm_additional_parameters": further or None}

    def _result(self, key: str, job: Any) -> Result:
        error = job.exception()
        if error is None:
            return Result(key, job.result())
        text = str(error)
        if TaskError.__name__ in text:
            text = text.rpartition(f"{TaskError.__name__}: ")[2].partition("\n-----")[0].strip()
        else:
            text = f"the job ended without a result: {text}"
        return Result(key, 0.0, f"{text}\nits log is {job.paths.stderr}")
