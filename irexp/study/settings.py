"""The settings of a search; conf/hydra/sweeper/optuna.yaml says what each means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from irexp.types import UserError

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Settings:
    """The settings of a search.

    Attributes:
        trials: how many trials of the study end, completed or pruned.
        workers: trials per round.
        directions: maximize or minimize, for each objective.
        seed: of the sampler.
        sampler: the configuration of Optuna's sampler, which is called with a seed.
        prune: whether fits are ended early.
        pruner: the configuration of Optuna's pruner.
        study: the folder of the study; None for one that is named after the search.
        params: the swept keys of a file.
    """

    trials: int
    workers: int
    directions: tuple[Direction, ...]
    seed: int
    sampler: Any
    prune: bool
    pruner: Any
    study: str | None
    params: Mapping[str, Any]

    def check(self) -> None:
        """Refuse numbers that are too small, and pruning by what is not the objective.

        Raises:
            UserError: naming the key.
        """
        for key, least in (("trials", 1), ("workers", 1), ("seed", 0)):
            if getattr(self, key) < least:
                raise UserError(
                    f"hydra.sweeper.{key}={getattr(self, key)} is out of range; it must be at least {least}"
                )
        if not self.directions:
            raise UserError("hydra.sweeper.direction=[]: give maximize or minimize for each objective")
        if self.prune and self.directions != ("maximize",):
            raise UserError(
                "hydra.sweeper.prune=true compares validations, of which the highest is best; it needs one objective "
                "with hydra.sweeper.direction=maximize; set hydra.sweeper.prune=false"
            )
