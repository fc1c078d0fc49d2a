"""Pruning: a training whose validations are worse than those of other trials of a sweep ends early."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from irexp.study.trial import RunningTrial

if TYPE_CHECKING:
    from optuna.trial import Trial


class Pruning(Callback):
    """Reports validations to the trial, and raises Optuna's TrialPruned in all processes if it is pruned."""

    def __init__(self, trial: RunningTrial, measure: str) -> None:
        """Report a measure of the validation, with the optimizer step."""
        self._running, self._measure = trial, measure

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the measure; the first process decides for all.

        Raises:
            TrialPruned: if the trial is pruned.
        """
        from optuna import TrialPruned

        if trainer.state.fn != TrainerFn.FITTING:  # the untrained model, or the end of the training
            return
        step, value = trainer.global_step, float(trainer.callback_metrics[self._measure])
        is_pruned = False
        if trainer.is_global_zero:
            self._trial.report(value, step)
            is_pruned = self._trial.should_prune()
        if trainer.strategy.broadcast(is_pruned):
            raise TrialPruned(f"{self._measure} is {value:.4f} at step {step}, worse than that of other trials")

    @cached_property
    def _trial(self) -> Trial:
        """The trial, opened in the process that reports."""
        return self._running.opened()
