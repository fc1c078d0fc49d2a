"""The launchers, which Hydra imports for every command: nothing but their settings is here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from irexp.sweep.launch import Start


class _Launcher(Launcher):
    """What the launchers share: they differ in what makes the graph's tasks."""

    def __init__(self, shares: int) -> None:
        """Choose into how many tasks encoding, search, scoring and re-ranking are divided."""
        self._shares = shares

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        self._given = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; returns the outcome of each."""
        from irexp.sweep.launch import Sweep, launch

        return launch(Sweep(*self._given), job_overrides, initial_job_idx, self.start(), shares=self._shares)

    @abstractmethod
    def start(self) -> Start:
        """What starts the processes that make the tasks."""


class GraphLauncher(_Launcher):
    """Makes what all jobs of a sweep need as one graph, in worker processes of this machine."""

    def __init__(self, *, workers: int, shares: int) -> None:
        """Choose how many processes work, and into how many tasks what can be divided is."""
        super().__init__(shares)
        self._workers = workers

    def start(self) -> Start:
        """Worker processes of this machine."""
        from irexp.sweep.launch import start_workers

        return partial(start_workers, count=self._workers)


class RayLauncher(_Launcher):
    """Makes the same graph as tasks of a Ray cluster, one per artifact."""

    def __init__(
        self, *, address: str | None, retries: int, shares: int, default: dict[str, Any], stages: dict[str, Any]
    ) -> None:
        """Choose the cluster, and what each task asks for.

        Args:
            address: of the cluster; None to start Ray on this machine.
            retries: how often a task begins again whose process or node is lost.
            shares: into how many tasks encoding, search, scoring and re-ranking are divided.
            default: what each task asks for.
            stages: what the tasks of a stage ask for instead.
        """
        super().__init__(shares)
        self._address, self._retries, self._default, self._stages = address, retries, default, stages

    def start(self) -> Start:
        """Tasks of the cluster."""
        from irexp.sweep.ray_tasks import start_tasks

        return partial(
            start_tasks, address=self._address, retries=self._retries, default=self._default, stages=self._stages
        )


class SlurmLauncher(_Launcher):
    """Makes the same graph as jobs of a Slurm cluster, one per artifact."""

    def __init__(
        self,
        *,
        cluster: Literal["slurm", "local"],
        workers: int,
        seconds: int,
        shares: int,
        default: dict[str, Any],
        stages: dict[str, Any],
    ) -> None:
        """Choose what each job asks for.

        Args:
            cluster: slurm, or local for processes of this machine, to try it.
            workers: with cluster=local, how many run at a time.
            seconds: between two looks at the jobs.
            shares: into how many jobs encoding, search, scoring and re-ranking are divided.
            default: what each job asks for.
            stages: what the jobs of a stage ask for instead.
        """
        super().__init__(shares)
        self._cluster, self._workers, self._seconds = cluster, workers, seconds
        self._default, self._stages = default, stages

    def start(self) -> Start:
        """Jobs of the cluster."""
        from irexp.sweep.cluster import start_jobs

        return partial(
            start_jobs,
            cluster=self._cluster,
            workers=self._workers,
            seconds=self._seconds,
            default=self._default,
            stages=self._stages,
        )
