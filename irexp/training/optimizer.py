"""The optimizer and its parameter groups: learning rates per part of a model, weight decay, frozen layers.

A transformer's depth 0 are its embeddings, depth n its n-th layer. What is not in a transformer is on top of it: a
projection, a head. With `layer_decay` d and n layers, depth i learns at d^(n - i) times the learning
rate (ULMFiT, Howard and Ruder 2018, arXiv:1801.06146, section 3.2).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from irexp.config.schema import Training
from irexp.loss.scale import LEARNING_RATE as SCALE_LEARNING_RATE
from irexp.model.lora import transformers_of
from irexp.model.model import Model
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The number of a transformer's layer in the name of a parameter, as transformers' architectures name it.
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|block|h)\.(\d+)\.")

#: The largest number of parameters whose training from the default learning rate is not remarkable.
_SMALL = 20_000_000

#: The largest usual learning rate of a transformer that has more parameters.
_USUAL = 1e-4


def make_optimizer(
    model: Model,
    loss: nn.Module,
    *,
    optimizer: Callable[..., Optimizer],
    schedule: Callable[..., float],
    training: Training,
    steps: int,
) -> dict[str, Any]:
    """The optimizer and the schedule, as Lightning takes them.

    Weight decay applies to matrices, not to biases, norms and other vectors.

    Args:
        model: the model.
        loss: its loss, whose scale, if it is learned, has a learning rate of its own.
        optimizer: called with parameter groups and `lr`.
        schedule: called with the step and `steps`; returns the factor of the learning rates.
        training: `learning_rate`, `head_learning_rate` and `layer_decay`.
        steps: the total number of optimizer steps.
    """
    if training.layer_decay is not None:
        _check_layers(model, "training.layer_decay")
    below = {p: layers - depth for depths, layers in _depths(model) for p, depth in depths.items()}
    groups: dict[tuple[float, bool], list[Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = _rate(training, below.get(parameter))
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    first = training.learning_rate  # the first group's rate is the logged one

    def place(key: tuple[float, bool]) -> tuple[bool, float, bool]:
        rate, is_matrix = key
        return rate != first, -rate, not is_matrix

    listed = [
        {
            "params": groups[key],
            **({} if key[1] else {"weight_decay": 0.0}),
            **({} if key[0] == first else {"lr": key[0]}),
        }
        for key in sorted(groups, key=place)
    ]
    scales = list(loss.parameters())
    if scales:
        listed.append({"params": scales, "weight_decay": 0.0, "lr": SCALE_LEARNING_RATE})
    made = optimizer(listed, lr=first, **_kernel_of(optimizer, listed, training))

    def factor(step: int) -> float:
        return schedule(step, steps=steps)

    def factor_of_scales(step: int) -> float:
        return min(1.0, factor(step))  # when stage=find_lr raises the model's rates

    is_of_scales = [bool(scales) and group["params"][0] is scales[0] for group in made.param_groups]
    scheduler = LambdaLR(made, [factor_of_scales if is_scales else factor for is_scales in is_of_scales])
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_kernel(optimizer: Callable[..., Optimizer], training: Training) -> None:
    """Refuse a fused kernel where Lightning would refuse it at the first step.

    Raises:
        UserError: if gradients are to be clipped in mixed precision.
    """
    is_fused = isinstance(optimizer, partial) and optimizer.keywords.get("fused")
    if is_fused and not _may_fuse(training):
        raise UserError(
            f"optimizer.fused=true cannot clip gradients in training.precision={training.precision}; set "
            f"optimizer.fused=null, or training.clip_norm=null"
        )


def _may_fuse(training: Training) -> bool:
    return training.precision == "32-true" or training.clip_norm is None


def _kernel_of(
    optimizer: Callable[..., Optimizer], groups: Iterable[Mapping[str, Any]], training: Training
) -> dict[str, bool]:
    """`fused` for AdamW on a processor where the configuration leaves the choice and Lightning clips with that kernel.

    Torch would choose a slower one there.

    A step of a BERT of 2 layers and 128 dimensions, whose word vectors are most of its weights, spent 50 to 66 of
    340 ms in AdamW, and 9 to 14 with the fused kernel.
    """
    is_open = (
        isinstance(optimizer, partial)
        and isinstance(optimizer.func, type)
        and issubclass(optimizer.func, torch.optim.AdamW)
        and optimizer.keywords.get("fused") is None
        and _may_fuse(training)
    )
    is_on_processor = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    return {"fused": True} if is_open and is_on_processor else {}


def _rate(training: Training, below: int | None) -> float:
    """The learning rate of a parameter so many layers below the top of its transformer; None: on top of it."""
    if below is None:
        return training.learning_rate if training.head_learning_rate is None else training.head_learning_rate
    if training.layer_decay is None:
        return training.learning_rate
    return training.learning_rate * training.layer_decay**below


def depth_of(model: Model) -> dict[Parameter, int]:
    """The depth of each parameter in a transformer; what is above the last layer, such as a norm, has that depth."""
    return {parameter: depth for depths, _ in _depths(model) for parameter, depth in depths.items()}


def _depths(model: Model) -> list[tuple[dict[Parameter, int], int]]:
    """The depth of each parameter of each transformer, and the number of its layers; 0 if their names are unknown."""
    listed = []
    for encoder in transformers_of(model).values():
        found: dict[Parameter, int] = {}
        body = encoder.base_model
        numbers = {name: _LAYER.search(name) for name, _ in body.named_parameters()}
        layers = 1 + max((int(number[1]) for number in numbers.values() if number), default=-1)
        for name, parameter in body.named_parameters():
            if number := numbers[name]:
                found[parameter] = int(number[1]) + 1
            else:
                found[parameter] = 0 if "embed" in name or name.startswith(("shared.", "wte.", "wpe.")) else layers
        listed.append((found, layers))
    return listed


def _check_layers(model: Model, setting: str) -> None:
    """Refuse a setting of layers for a transformer whose parameters' names do not tell their layer."""
    for encoder, (_, layers) in zip(transformers_of(model).values(), _depths(model), strict=True):
        if not layers:
            raise UserError(
                f"{setting}: the layers of a {type(encoder).__name__} share their weights or have unknown names, and "
                f"cannot be told apart; set it to null"
            )


@contextmanager
def frozen(model: Model, layers: int | None) -> Iterator[None]:
    """Keep the embeddings and the lowest `layers` layers of a model unchanged in the block; None freezes nothing.

    Raises:
        UserError: if a transformer does not have as many layers.
    """
    if layers is None:
        yield
        return
    _check_layers(model, f"training.frozen_layers={layers}")
    if layers > (fewest := min(number for _, number in _depths(model))):
        raise UserError(f"training.frozen_layers={layers}: the backbone has {fewest} layers; freeze at most as many")
    depths = depth_of(model)
    stopped = [p for p, depth in depths.items() if depth <= layers and p.requires_grad]
    _set_trained(stopped, is_trained=False)
    log.info("training.frozen_layers=%d: %s parameters are not trained", layers, f"{sum(map(torch.numel, stopped)):,}")
    try:
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(f"training.frozen_layers={layers}: nothing is left to train; freeze fewer layers")
        yield
    finally:
        _set_trained(stopped, is_trained=True)


def _set_trained(parameters: Iterable[Parameter], *, is_trained: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad = is_trained


def warn_of_learning_rate(model: Model, training: Training) -> None:
    """Warn if the learning rate would ruin a pre-trained transformer."""
    depths = depth_of(model)
    trained = sum(p.numel() for p in depths if p.requires_grad)
    if trained > _SMALL and training.learning_rate > _USUAL:
        log.warning(
            "training.learning_rate=%g is high for a backbone of which %d million parameters are trained, and may undo "
            "its pre-training; 2e-5 is usual: training=bert_base, or training.learning_rate=2e-5",
            training.learning_rate,
            trained // 1_000_000,
        )
