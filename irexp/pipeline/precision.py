"""The precision in which a model computes outside of training: float32, bfloat16, or int8 on a processor.

It applies to the documents of a bi-encoder, and to the pairs of a cross-encoder; queries that are embedded alone are
always in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch

from irexp.backbone.half import in_bfloat16, replaced_module
from irexp.backbone.int8 import Int8Transformer, check_int8
from irexp.config.check import near
from irexp.config.limits import CHOICES
from irexp.config.schema import Machine
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.pipeline.machine import prepare, warn_of_slow_bfloat16
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Opens a context in which a model's transformer computes in a lower precision; it can be called any number of times.
Lowered = Callable[[], AbstractContextManager[None]]


def check_computation(setting: str, precision: str, device: torch.device) -> None:
    """Refuse a precision that there is not, or not on this device, and warn of a slow one, before anything is made.

    Args:
        setting: the key that chose it, such as re_rank.precision.
        precision: its value.
        device: where the model computes.

    Raises:
        UserError: naming what to set.
    """
    if precision not in CHOICES[setting]:
        raise UserError(f"{setting}: {precision!r} is not a choice{near(precision, CHOICES[setting])}")
    if precision == "int8":
        check_int8(device, setting)
    if precision == "bfloat16":
        warn_of_slow_bfloat16(f"{setting}=bfloat16", "float32", device)


def check_family(setting: str, precision: str, family: type[Model]) -> None:
    """Refuse a family of models whose transformer cannot be computed in int8."""
    if precision == "int8" and issubclass(family, CrossEncoder) and family.without_int8:
        raise UserError(
            f"{setting}=int8: a {family.__name__} cannot be computed in int8, because {family.without_int8}; set "
            f"{setting}=bfloat16 or float32"
        )


def lowered(setting: str, precision: str, model: Model) -> Lowered:
    """Make the copy of a model's transformer that computes in a precision, on the model's device; none in float32.

    In bfloat16 the layers on top of a bi-encoder's transformer are computed under autocast; those of a cross-encoder,
    which are small, and all in int8 stay in float32.

    Raises:
        UserError: if the model cannot be computed in int8.
    """
    check_family(setting, precision, type(model))
    transformer, tokenizer = model.encoders()["backbone"]
    if precision == "int8":
        has_types = isinstance(model, CrossEncoder) and "token_type_ids" in tokenizer.model_input_names
        return Int8Transformer(transformer, setting=setting, has_types=has_types).in_place
    if precision == "bfloat16":
        return partial(_in_bfloat16, model, transformer, in_bfloat16(transformer))
    return nullcontext


def prepare_scorer(model: Model, machine: Machine, setting: str, precision: str) -> Lowered:
    """Move a model to where it scores, in a precision.

    Args:
        model: a cross-encoder or a bi-encoder.
        machine: where it runs.
        setting: the key that chose the precision, such as re_rank.precision.
        precision: its value.

    Raises:
        UserError: if the precision cannot be had.
    """
    device = prepare(machine)
    check_computation(setting, precision, device)
    return lowered(setting, precision, model.to(device))


@contextmanager
def _in_bfloat16(model: Model, transformer: PreTrainedModel, half: PreTrainedModel) -> Iterator[None]:
    has_layers = isinstance(model, BiEncoder)
    with (
        replaced_module(model, transformer, half),
        torch.autocast(transformer.device.type, torch.bfloat16, enabled=has_layers),
    ):
        yield
