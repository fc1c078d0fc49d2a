"""Pooling over the logits of a masked language model, without ever holding them all.

All logits of 32 texts of 256 tokens over 30,522 words are 1.0 GB in fp32, and as much again for the gradient. Here a
chunk of the vocabulary is taken at a time; for the gradient of the maximum only the position of each is kept (8 bytes
a text and word), and the activations of a sum are computed again.

Shapes: B texts, L tokens, H hidden dimensions, V vocabulary entries, C entries of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

#: Logits that are held at once: 64 MB in fp32.
_CHUNK_VALUES = 2**24


def max_logits(hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, mask_BL: Tensor) -> Tensor:
    """logit_BV, the maximum over the tokens that the mask lets through, in fp32."""
    if torch.is_autocast_enabled(hidden_BLH.device.type):
        hidden_BLH = hidden_BLH.to(torch.get_autocast_dtype(hidden_BLH.device.type))
    logit_BV: Tensor = _MaxLogits.apply(hidden_BLH, weight_VH, bias_V, mask_BL)  # type: ignore[no-untyped-call]
    return logit_BV


def sum_activations(
    hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, mask_BL: Tensor, activate: Callable[[Tensor], Tensor]
) -> Tensor:
    """weight_BV, the sum of the activated logits over the tokens that the mask lets through."""

    def chunk(hidden_BLH: Tensor, weight_CH: Tensor, bias_C: Tensor | None) -> Tensor:
        return (activate(linear(hidden_BLH, weight_CH, bias_C).float()) * mask_BL[:, :, None]).sum(dim=1)

    sums = []
    for part in _chunks(hidden_BLH, len(weight_VH)):
        bias_C = None if bias_V is None else bias_V[part]
        sums.append(checkpoint(chunk, hidden_BLH, weight_VH[part], bias_C, use_reentrant=False))
    return torch.cat(sums, dim=1)


class _MaxLogits(torch.autograd.Function):
    """The maximum and, for its gradient, where it was found."""

    @staticmethod
    def forward(ctx: Any, hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, mask_BL: Tensor) -> Tensor:
        """logit_BV."""
        is_left_out_BL1 = ~mask_BL.bool()[:, :, None]
        maxima, places = [], []
        with torch.autocast(hidden_BLH.device.type, enabled=False):
            for part in _chunks(hidden_BLH, len(weight_VH)):
                bias_C = None if bias_V is None else bias_V[part].to(hidden_BLH.dtype)
                logit_BLC = linear(hidden_BLH, weight_VH[part].to(hidden_BLH.dtype), bias_C)
                best = logit_BLC.masked_fill_(is_left_out_BL1, -torch.inf).max(dim=1)
                maxima.append(best.values)
                places.append(best.indices)
        ctx.save_for_backward(hidden_BLH, weight_VH, torch.cat(places, dim=1))
        ctx.has_bias = bias_V is not None
        return torch.cat(maxima, dim=1).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Gradients flow to the tokens at which the maxima were found."""
        (gradient_BV,) = gradients
        hidden_BLH, weight_VH, place_BV = ctx.saved_tensors
        hidden_gradient_BLH = torch.zeros_like(hidden_BLH)
        weight_gradient_VH = torch.empty_like(weight_VH)
        flat_hidden = hidden_BLH.flatten(0, 1)
        for part in _chunks(hidden_BLH, len(weight_VH)):
            logit_gradient_BLC = hidden_BLH.new_zeros(*hidden_BLH.shape[:2], part.stop - part.start)
            chosen_B1C = gradient_BV[:, None, part].to(hidden_BLH.dtype)
            logit_gradient_BLC.scatter_(1, place_BV[:, None, part], chosen_B1C)
            hidden_gradient_BLH += logit_gradient_BLC @ weight_VH[part].to(hidden_BLH.dtype)
            weight_gradient_VH[part] = (logit_gradient_BLC.flatten(0, 1).T @ flat_hidden).to(weight_VH.dtype)
        bias_gradient_V = gradient_BV.sum(dim=0).to(weight_VH.dtype) if ctx.has_bias else None
        return hidden_gradient_BLH, weight_gradient_VH, bias_gradient_V, None


def _chunks(hidden_BLH: Tensor, vocabulary: int) -> list[slice]:
    size = max(1, _CHUNK_VALUES // (hidden_BLH.shape[0] * hidden_BLH.shape[1]))
    return [slice(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size)]
