"""A training that has diverged (loss or final weights are not finite), or whose loss is not one number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irexp.types import UserError

_ADVICE = "lower training.learning_rate, set training.clip_norm, or use training.precision=32-true"


class DivergedError(UserError):
    """The loss or the weights are not finite."""


def check_loss(loss: Tensor, step: int) -> None:
    """Stop before an update from which no training recovers.

    Args:
        loss: a scalar.
        step: the optimizer steps before.

    Raises:
        DivergedError: if it is not finite.
    """
    if not torch.isfinite(loss):
        raise DivergedError(f"the loss is {loss.item()} at step {step}: {_ADVICE}")


def check_weights(module: nn.Module) -> None:
    """Look at what the last step has made, since no further loss tells it.

    Raises:
        DivergedError: naming a trained parameter that is not finite.
    """
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not parameter.isfinite().all():
            place = name.removeprefix("model.")
            raise DivergedError(f"the trained weights {place} are not finite after the last step: {_ADVICE}")


def check_number(value: Tensor, loss: nn.Module) -> None:
    """Stop if a loss is not one number: its mean over the queries would train something.

    Raises:
        UserError: with the shape that the loss returned.
    """
    if value.numel() != 1:
        raise UserError(
            f"{type(loss).__qualname__}.forward returned a tensor of the shape {tuple(value.shape)}, but a loss is a "
            f"single number"
        )
