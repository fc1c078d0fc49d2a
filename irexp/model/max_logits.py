"""Pooling over the logits of a masked language model, without ever holding them all in memory.

All logits of 16 texts of 256 tokens over 30,522 words are 0.5 GB in fp32, and three times as much with their gradient.
So the logits of a few texts of similar length are computed at a time, 64 MB in all; on a processor 8 MB at a time, by
slices of the vocabulary, since memory of that size is kept by C's allocator, and larger pieces are fetched from the
system and cleared each time: a SPLADE of 128 dimensions encoded in 34 s rather than 61. Of max pooling only the maxima
are kept (B V numbers): the backward pass computes their positions again, for the words with a gradient, which are few
once a model is sparse. A step takes 141 MiB instead of 1,575, and a fifth of the time (tests/benchmark/memory.py). For
sum pooling the backward pass computes the activations again.

Shapes: B texts, L tokens, H hidden dimensions, V vocabulary entries, C entries of a chunk, W words with a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from irexp.model.pooling import without_masked

#: Logits of the texts that are computed together, 64 MB in fp32; and those held in a processor's memory at a time.
_CHUNK_VALUES, _PROCESSOR_VALUES = 2**24, 2**21


def max_logits(hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, mask_BL: Tensor) -> Tensor:
    """logit_BV, the maximum over the unmasked tokens, in fp32."""
    if torch.is_autocast_enabled(hidden_BLH.device.type):
        hidden_BLH = hidden_BLH.to(torch.get_autocast_dtype(hidden_BLH.device.type))
    hidden_BLH = without_masked(hidden_BLH, mask_BL)
    length_B = (mask_BL.cumsum(dim=1) * mask_BL).argmax(dim=1) + 1
    logit_BV: Tensor = _MaxLogits.apply(hidden_BLH, weight_VH, bias_V, length_B)  # type: ignore[no-untyped-call]
    return logit_BV


def sum_activations(
    hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, mask_BL: Tensor, activate: Callable[[Tensor], Tensor]
) -> Tensor:
    """weight_BV, the sum of the activated logits over the unmasked tokens."""

    def chunk(hidden_BLH: Tensor, weight_CH: Tensor, bias_C: Tensor | None) -> Tensor:
        return (activate(linear(hidden_BLH, weight_CH, bias_C).float()) * mask_BL[:, :, None]).sum(dim=1)

    sums = []
    for part in _chunks(hidden_BLH, len(weight_VH)):
        bias_C = None if bias_V is None else bias_V[part]
        sums.append(checkpoint(chunk, hidden_BLH, weight_VH[part], bias_C, use_reentrant=False))
    return torch.cat(sums, dim=1)


class _MaxLogits(torch.autograd.Function):
    """The maximum over the first `length` tokens of each text."""

    @staticmethod
    def forward(ctx: Any, hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, length_B: Tensor) -> Tensor:
        """logit_BV."""
        logit_BV = hidden_BLH.new_empty((len(hidden_BLH), len(weight_VH)), dtype=torch.float32)
        weight_VH = weight_VH.to(hidden_BLH.dtype)
        with torch.autocast(hidden_BLH.device.type, enabled=False):
            for texts, length in _groups(length_B, len(weight_VH)):
                group_BLH = hidden_BLH[texts, :length]
                for part in _chunks(group_BLH, len(weight_VH)):
                    logit_BV[texts, part] = linear(group_BLH, weight_VH[part]).amax(dim=1).float()
        if bias_V is not None:
            logit_BV += bias_V  # the same for every token of a text, so that it may wait until the maximum is found
        ctx.save_for_backward(hidden_BLH, weight_VH, length_B)
        ctx.has_bias = bias_V is not None
        return logit_BV

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Gradients flow to the tokens that have the maxima."""
        (gradient_BV,) = gradients
        hidden_BLH, weight_VH, length_B = ctx.saved_tensors
        hidden_gradient_BLH = torch.zeros_like(hidden_BLH)
        weight_gradient_VH = torch.zeros_like(weight_VH, dtype=torch.float32)
        text_W, word_W = gradient_BV.nonzero(as_tuple=True)
        words_of = torch.split(word_W, torch.bincount(text_W, minlength=len(hidden_BLH)).tolist())
        for text, (words, length) in enumerate(zip(words_of, length_B.tolist(), strict=True)):
            hidden_LH, weight_WH = hidden_BLH[text, :length], weight_VH[words]
            place_W = (hidden_LH @ weight_WH.T).argmax(dim=0)  # the bias does not change which token is best
            gradient_W1 = gradient_BV[text, words, None].to(hidden_LH.dtype)
            hidden_gradient_BLH[text].index_add_(0, place_W, gradient_W1 * weight_WH)
            weight_gradient_VH.index_add_(0, words, (gradient_W1 * hidden_LH[place_W]).float())
        return hidden_gradient_BLH, weight_gradient_VH, gradient_BV.sum(dim=0) if ctx.has_bias else None, None


def _groups(length_B: Tensor, vocabulary: int) -> list[tuple[Tensor, int]]:
    """Texts of similar length whose logits fit into a chunk, and the length of the longest."""
    order_B = length_B.argsort()
    groups: list[tuple[Tensor, int]] = []
    start, lengths = 0, length_B[order_B].tolist()
    for end, length in enumerate(lengths):
        if end > start and (end + 1 - start) * length * vocabulary > _CHUNK_VALUES:
            groups.append((order_B[start:end], lengths[end - 1]))
            start = end
    return [*groups, (order_B[start:], lengths[-1])]


def _chunks(hidden_BLH: Tensor, vocabulary: int) -> list[slice]:
    """Slices of the vocabulary: a single one, unless the logits exceed what is held in memory at a time."""
    values = _PROCESSOR_VALUES if hidden_BLH.device.type == "cpu" else _CHUNK_VALUES
    size = max(1, values // (hidden_BLH.shape[0] * hidden_BLH.shape[1]))
    return [slice(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size)]
