"""Two looks at a training before it is run: whether one batch can be learnt, and which learning rate to begin with.

overfit   trains on the first batch again and again; a loss that does not fall means a fault in data, loss or model
find_lr   raises the learning rate exponentially from step to step (after Smith 2017, arXiv:1506.01186, 3.3); the
          suggestion is a tenth of the rate at which the smoothed loss is smallest, since it diverges soon after

Both run on one device, and change the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from irexp.model.model import Model
from irexp.training.datamodule import RetrievalData
from irexp.training.diverged import DivergedError
from irexp.training.module import RetrievalModule
from irexp.training.schedule import constant
from irexp.training.setup import TrainingSetup
from irexp.training.trainer import as_trained, check_setup, running_trainer
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Optimizer steps of each.
_OVERFIT_STEPS, _FIND_STEPS = 50, 100

#: The first and the last learning rate that is tried.
_LOWEST, _HIGHEST = 1e-7, 1.0

#: A loss as many times the smallest one ends the search for a learning rate.
_DIVERGED = 4.0

#: The weight of the earlier losses in the smoothed loss.
_SMOOTHING = 0.8


def overfit(model: Model, setup: TrainingSetup, *, steps: int = _OVERFIT_STEPS) -> dict[str, float]:
    """Train on one batch, and log whether its loss fell by half.

    Returns:
        The mean loss of the first and the last tenth of the steps.
    """
    losses = _losses(model, setup, steps, constant, [0] * steps * setup.training.accumulate_batches)
    some = max(1, len(losses) // 10)
    first, last = sum(losses[:some]) / some, sum(losses[-some:]) / some
    if last < first / 2:
        log.info("overfit: the loss of one batch fell from %.4g to %.4g in %d steps", first, last, steps)
    else:
        log.warning(
            "overfit: the loss of one batch went from %.4g to %.4g in %d steps, and should have fallen by half: look "
            "at training.learning_rate=%g (stage=find_lr), the loss, and the examples",
            first,
            last,
            steps,
            setup.training.learning_rate,
        )
    return {"first": first, "last": last}


def find_lr(model: Model, setup: TrainingSetup, *, steps: int = _FIND_STEPS) -> dict[str, float]:
    """Train with a rising learning rate, and log a suggestion.

    Returns:
        The suggested learning rate, and the rate at which the smoothed loss was smallest.

    Raises:
        UserError: if the loss did not fall at any rate.
    """
    base = setup.training.learning_rate
    if base <= 0:
        raise UserError(f"training.learning_rate={base}: it must be above 0")

    def rising(step: int, *, steps: int) -> float:
        return _rate(step, steps) / base

    losses = _losses(model, setup, steps, rising, range(steps * setup.training.accumulate_batches))
    smoothed = smooth(losses)
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    if lowest < steps // 10:
        raise UserError(
            f"find_lr: the loss fell at no learning rate from {_LOWEST:g} to {_HIGHEST:g}; try stage=overfit, which "
            f"tells whether the model can learn one batch of the examples"
        )
    smallest = _rate(lowest, steps)
    log.info("find_lr: training.learning_rate=%.1e suggested: the loss was smallest at %.1e", smallest / 10, smallest)
    return {"learning_rate": smallest / 10, "smallest_loss_at": smallest}


def smooth(losses: list[float]) -> list[float]:
    """An exponential average of losses, without its bias towards zero.

    >>> [round(loss, 2) for loss in smooth([2.0, 2.0, 0.0])]
    [2.0, 2.0, 1.18]
    """
    found, average = [], 0.0
    for step, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        found.append(average / (1 - _SMOOTHING**step))
    return found


def _rate(step: int, steps: int) -> float:
    return float(_LOWEST * (_HIGHEST / _LOWEST) ** (step / max(1, steps - 1)))


class _Losses(Callback):
    """Collects the loss of each optimizer step; ends the training when it has diverged."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        if trainer.global_step > len(self.found):
            self.found.append(float(trainer.callback_metrics["train/loss"]))
            trainer.should_stop = self.found[-1] > _DIVERGED * min(self.found)


def _losses(
    model: Model, setup: TrainingSetup, steps: int, schedule: Callable[..., float], numbers: Iterable[int]
) -> list[float]:
    """The losses of optimizer steps on the batches of these numbers, until the training diverges."""
    machine = replace(setup.machine, devices=1, num_nodes=1, strategy="auto")
    training = replace(setup.training, steps=steps, epochs=None, validate_every=None, patience=None, ema_decay=None)
    setup = replace(setup, machine=machine, training=training, schedule=schedule, logger=None)
    check_setup(model, setup)
    data = RetrievalData.of(model, setup, None)
    module = RetrievalModule.of(model.train(), setup, steps=steps, validation=None)
    losses = _Losses()
    loader = DataLoader(data.batches, batch_size=None, sampler=list(numbers))
    with (
        as_trained(model, setup),
        running_trainer(steps, [losses], training=training, machine=machine, logger=None) as trainer,
    ):
        try:
            trainer.fit(module, loader)
        except DivergedError as error:
            if not losses.found:
                raise
            log.info("%s", str(error).partition(":")[0])
    return losses.found
