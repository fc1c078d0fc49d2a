"""The trial of a sweep that a job belongs to, as far as a fit needs it: to report validations and to be pruned."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from irexp.config.built import built

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.trial import Trial


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is running in this process or another one.

    Attributes:
        folder: of the study.
        number: the trial's number in the study.
        pruner: compares it with the other trials; the study does not store it.
    """

    folder: Path
    number: int
    pruner: BasePruner

    def opened(self) -> Trial:
        """The trial in Optuna, from any process."""
        from optuna.trial import Trial

        from irexp.study.study import load_study

        study = load_study(self.folder, self.pruner)
        return Trial(study, study.get_trials(deepcopy=False)[self.number]._trial_id)


def trial_of(sweeper: DictConfig) -> RunningTrial | None:
    """The trial that a job belongs to; None without a sweep that prunes.

    Args:
        sweeper: the job's `hydra.sweeper`.
    """
    if sweeper.get("trial") is None:
        return None
    return RunningTrial(Path(sweeper.study), sweeper.trial, built(sweeper.pruner))


def is_pruned(error: BaseException) -> bool:
    """Whether an error is Optuna's TrialPruned; Optuna may not be installed."""
    optuna = sys.modules.get("optuna")
    return optuna is not None and isinstance(error, optuna.TrialPruned)
