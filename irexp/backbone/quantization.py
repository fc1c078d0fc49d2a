"""Transformers with 4 bits per weight, for adapters (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

The weights are quantised while they are read, and become float weights again when the adapters are merged: those that
the adapters were trained with, so that the saved model scores as the trained one.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from irexp.types import UserError


def quantised_options(dtype: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` for NormalFloat weights of 4 bits, whose scales are quantised, too.

    Args:
        dtype: what a layer computes in.

    Raises:
        UserError: if there is no NVIDIA GPU, or bitsandbytes is not installed.
    """
    if not torch.cuda.is_available():
        raise UserError(
            "backbone.quantization=nf4 needs an NVIDIA GPU, and torch sees none here; set backbone.quantization=null"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "backbone.quantization=nf4 needs the package bitsandbytes: pip install 'irexp[bitsandbytes]', or set "
            "backbone.quantization=null"
        )
    return options_on(torch.device("cuda", 0), dtype)


def options_on(device: torch.device, dtype: str) -> dict[str, Any]:
    """The same, for a device."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config, "device_map": {"": device}}


def is_quantised(model: nn.Module) -> bool:
    """Whether a transformer was quantised when it was read."""
    return getattr(model, "hf_quantizer", None) is not None


def is_quantised_layer(layer: Any) -> bool:
    """Whether a linear layer has 4 bits per weight."""
    return getattr(getattr(layer, "weight", None), "quant_state", None) is not None


def dequantise(model: Any) -> None:
    """Give a quantised transformer float weights, in place."""
    for name, layer in list(model.named_modules()):
        if is_quantised_layer(layer):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, float_layer(layer))
    model.hf_quantizer.remove_quantization_config(model)


def float_layer(layer: Any, delta: Tensor | None = None) -> nn.Linear:
    """A quantised layer, with a change of its weights added if there is one, as a layer of float weights."""
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    whole = nn.Linear(
        layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=weight.dtype, device=weight.device
    )
    whole.weight.data = weight if delta is None else (weight.float() + delta.float()).to(weight.dtype)
    if layer.bias is not None:
        whole.bias.data = layer.bias.data.to(weight.dtype)
    return whole
