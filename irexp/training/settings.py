"""Whether the settings of a training go together, as far as they tell without the model and the examples.

A job checks them before its first step, and a training again with the model in hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from irexp.config.schema import FalseNegatives, Machine, Training
from irexp.loss.loss import Loss
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.regularizer.regularizer import Regularizer
from irexp.training.false_negatives import compares_scores
from irexp.training.optimizer import check_kernel
from irexp.training.strategy import check_strategy
from irexp.training.targets import check_family
from irexp.types import UserError


def check_settings(
    family: type[Model] | None,
    loss: Loss,
    *,
    regularizer: Regularizer | None,
    false_negatives: FalseNegatives,
    training: Training,
    machine: Machine,
    optimizer: Callable[..., Optimizer],
    is_taught: bool,
) -> None:
    """Compare the settings of a training with one another.

    Args:
        family: the model's class; None if only a checkpoint tells it.
        loss: what is minimised.
        regularizer: of the embeddings; None for none.
        false_negatives: which documents are left out as negatives.
        training: steps, batch size and the like.
        machine: where it runs.
        optimizer: a function from parameters to an optimizer.
        is_taught: whether the targets are a teacher's scores.

    Raises:
        UserError: naming what to set instead.
    """
    if family is not None:
        for part in loss.parts():
            check_family(family, part.loss)
        if regularizer is not None:
            _check_regularizer(family)
    if is_taught and not any(_learns_targets(part.loss) for part in loss.parts()):
        raise UserError(
            f"teacher.scores: {type(loss).__name__} learns nothing from a teacher's scores, only which document is the "
            f"positive; set teacher=none, or a loss that learns them, such as loss=margin_mse or kl_divergence"
        )
    if compares_scores(false_negatives) and not loss.in_batch:
        raise UserError(
            "false_negatives.margin, relative_margin and guide leave out documents of other queries, and the loss "
            "compares each query with its own alone; set false_negatives=none or same_text, or an in-batch loss"
        )
    if (training.steps is None) == (training.epochs is None):
        raise UserError(
            f"training.steps={training.steps} and training.epochs={training.epochs}: set one of them, and the other "
            f"to null"
        )
    _check_batch_size(training, machine)
    check_strategy(machine, training, optimizer)
    check_kernel(optimizer, training)
    _check_optimizer(optimizer, training)


def _learns_targets(loss: Loss) -> bool:
    """Whether a loss learns the targets of a query's own documents."""
    return not loss.compares_viewers and (not loss.in_batch or loss.takes_scores_in_batch)


def _check_regularizer(family: type[Model]) -> None:
    if issubclass(family, CrossEncoder):
        raise UserError("a regularizer needs embeddings, which a cross-encoder does not have; set regularizer=none")
    if issubclass(family, BiEncoder) and family.representation == "tokens":
        raise UserError(
            f"a regularizer needs one vector per text, but a {family.__name__} has one per token; set regularizer=none"
        )


def _check_batch_size(training: Training, machine: Machine) -> None:
    """Refuse a global batch that devices and accumulated batches cannot divide."""
    parts = training.accumulate_batches * machine.devices * machine.num_nodes
    if training.batch_size < 1 or training.batch_size % parts:
        raise UserError(
            f"training.batch_size={training.batch_size} is the total over devices and accumulated batches; it must be "
            f"a multiple of {parts} (accumulate_batches {training.accumulate_batches} x devices {machine.devices} x "
            f"nodes {machine.num_nodes})"
        )


def _check_optimizer(optimizer: Callable[..., Optimizer], training: Training) -> None:
    """Make the optimizer of a single weight."""
    try:
        optimizer([Parameter(torch.zeros(1))], lr=training.learning_rate)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: it refuses its settings: {error}; see the signature of its class") from error
