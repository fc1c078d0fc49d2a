"""The launchers, which Hydra imports for every command: nothing but their settings is here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GraphLauncher(Launcher):
    """Makes what all jobs of a sweep need as one graph, in worker processes of this machine."""

    def __init__(self, *, workers: int) -> None:
        """Choose how many processes work."""
        self._workers = workers

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        self._given = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; returns the outcome of each."""
        from irexp.sweep.launch import Sweep, launch, start_workers

        start = partial(start_workers, count=self._workers)
        return launch(Sweep(*self._given), job_overrides, initial_job_idx, start)
