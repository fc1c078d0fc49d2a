"""Weights of 4 bits below adapters, while these are trained (QLoRA; Dettmers et al. 2023, arXiv:2305.14314).

The linear layers that adapters leave unchanged are quantised to NormalFloat values with quantised scales, by the
package bitsandbytes: an eighth of the memory of fp32 on the training device. Their own weights wait in the host's
memory. After the training they return, and the adapters are merged into them; so nothing that is saved has been rounded
to 4 bits, while the validations of the training computed with 4 bits.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from irexp.config.installation import install_command
from irexp.config.schema import Training
from irexp.model.lora import transformers_of
from irexp.model.model import Model
from irexp.types import UserError

log = logging.getLogger(__name__)


@contextmanager
def quantised(model: Model, training: Training, device: torch.device) -> Iterator[None]:
    """In the block, frozen linear layers have 4 bits per weight, if `training.quantization` asks for it.

    Args:
        model: a model with adapters.
        training: the settings.
        device: where the layers are quantised and used.
    """
    places = _frozen(model) if training.quantization is not None else []
    try:
        for parent, name, layer in places:
            setattr(parent, name, _of_four_bits(layer, device))
        if places:
            weights = f"{sum(layer.weight.numel() for *_, layer in places):,}"
            log.info("training.quantization=4bit: %s frozen weights have 4 bits during the training", weights)
        yield
    finally:
        for parent, name, layer in places:
            setattr(parent, name, layer)


def check_quantization(model: Model, training: Training, *, devices: int) -> None:
    """Check that frozen weights can be quantised, if that is wanted.

    Raises:
        UserError: if nothing but frozen weights would be trained, there are several devices, bitsandbytes is not
            installed, or the transformers lack linear layers.
    """
    if training.quantization is None:
        return
    if not any("lora_" in name for name, _ in model.named_parameters()):
        raise UserError(
            "training.quantization=4bit: weights of 4 bits cannot be trained, only adapters on top of them; set "
            "adapter=lora, or training.quantization=null"
        )
    if devices > 1:
        raise UserError(
            "training.quantization=4bit trains on one device; set machine.devices=1, or training.quantization=null"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"training.quantization=4bit needs the package bitsandbytes: {install_command('bitsandbytes')}, or set "
            f"training.quantization=null"
        )
    if not _frozen(model):
        kinds = ", ".join(dict.fromkeys(type(encoder).__name__ for encoder in transformers_of(model).values()))
        raise UserError(
            f"training.quantization=4bit: a {kinds} has no frozen linear layers of torch to quantise; use another "
            f"backbone, or set training.quantization=null"
        )


def _frozen(model: Model) -> list[tuple[nn.Module, str, nn.Linear]]:
    """The linear layers that are not trained: the module that each is in, its name there, and the layer.

    Not the layer that makes scores of words, and not those that transformers keeps in fp32, for accuracy.
    """
    found = []
    for encoder in transformers_of(model).values():
        last = encoder.get_output_embeddings()  # type: ignore[no-untyped-call]
        whole = set(encoder._keep_in_fp32_modules or ())
        for path, parent in encoder.named_modules():
            for name, layer in parent.named_children():
                is_frozen = not any(parameter.requires_grad for parameter in layer.parameters())
                if (
                    type(layer) is nn.Linear
                    and is_frozen
                    and layer is not last
                    and not whole & {*path.split("."), name}
                ):
                    found.append((parent, name, layer))
    return found


def _of_four_bits(layer: nn.Linear, device: torch.device) -> nn.Module:
    """A layer with the quantised weights, which computes in bf16."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    made: Any = Linear4bit(
        layer.in_features, layer.out_features, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
    )
    weight = layer.weight.detach().to(torch.bfloat16)
    made.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", module=made).to(device)
    if layer.bias is not None:  # a copy, since bitsandbytes casts it
        made.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    made.support_avx512bf16_for_cpu = False  # after a validation that path would pass on no gradients
    return made  # type: ignore[no-any-return]
