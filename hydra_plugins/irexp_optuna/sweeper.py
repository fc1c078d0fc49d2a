"""The sweeper as Hydra finds it, in a package of hydra_plugins; every command imports it, so that it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


class OptunaSweeper(Sweeper):
    """Searches the configuration for the best objective; the keys are in conf/hydra/sweeper/optuna.yaml."""

    def __init__(
        self,
        *,
        trials: int,
        workers: int,
        direction: Literal["maximize", "minimize"] | list[Literal["maximize", "minimize"]],
        seed: int,
        sampler: Callable[..., BaseSampler],
        prune: bool,
        pruner: BasePruner,
        study: str | None = None,
        params: Any = None,
        trial: int | None = None,
    ) -> None:
        """Take the settings; `trial` is that of a job, not of the sweep."""
        from irexp.study.settings import Settings

        self._settings = Settings(
            trials,
            workers,
            (direction,) if isinstance(direction, str) else tuple(direction),
            seed,
            sampler,
            prune,
            pruner,
            study,
            params or {},
        )

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher that was chosen."""
        self._loader, self._config = hydra_context.config_loader, config
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[list[float]]:
        """Search; returns the objectives of each best trial."""
        from irexp.study.sweep import sweep
        from irexp.types import UserError

        try:
            return sweep(arguments, self._settings, self._config, self._loader, self._launcher.launch)
        except UserError as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from None
