"""Pooling: one vector per text from its token vectors. Padding and other masked tokens never count.

Shapes: B texts, L tokens, H dimensions; x is the token vectors, m the mask.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from irexp.types import UserError

Pooling = Literal["mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean"]


def pool(vector_BLH: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """vector_BH.

    mean:          sum_l m_l x_l / sum_l m_l
    mean_sqrt_len: sum_l m_l x_l / sqrt(sum_l m_l)
    weighted_mean: sum_l l m_l x_l / sum_l l m_l, with l from 1 (SGPT, Muennighoff 2022, arXiv:2202.08904)
    max:           max_l x_l over m_l = 1
    cls:           x at the first token with m_l = 1
    last:          x at the last token with m_l = 1 (for decoders, whose tokens only see the tokens before them)
    """
    if pooling == "cls":
        first_B = mask_BL.to(torch.int8).argmax(dim=1)
        return vector_BLH[torch.arange(len(vector_BLH), device=mask_BL.device), first_B]
    if pooling == "last":
        position_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
        last_B = (mask_BL.bool() * position_L).amax(dim=1)
        return vector_BLH[torch.arange(len(vector_BLH), device=mask_BL.device), last_B]
    if pooling == "max":
        return vector_BLH.masked_fill(~mask_BL.bool()[:, :, None], -torch.inf).amax(dim=1)
    weight_BL = mask_BL.to(vector_BLH.dtype)
    if pooling == "weighted_mean":
        weight_BL = weight_BL * torch.arange(1, weight_BL.shape[1] + 1, device=weight_BL.device)
    sum_BH = (vector_BLH * weight_BL[:, :, None]).sum(dim=1)
    total_B1 = weight_BL.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return sum_BH / (total_B1.sqrt() if pooling == "mean_sqrt_len" else total_B1)


def without_masked(vector_BLH: Tensor, mask_BL: Tensor) -> Tensor:
    """The vectors, with each masked one replaced by a copy of the text's first unmasked one.

    A maximum over them needs no masking, which would take as much memory again as the values themselves.
    """
    first_B1 = mask_BL.to(torch.int8).argmax(dim=1, keepdim=True)
    place_BL = torch.where(mask_BL.bool(), torch.arange(mask_BL.shape[1], device=mask_BL.device), first_B1)
    return vector_BLH.gather(1, place_BL[:, :, None].expand_as(vector_BLH))


def check_poolings(pooling: str | Sequence[str]) -> tuple[Pooling, ...]:
    """The names of one or several poolings as a tuple, each checked.

    Raises:
        UserError: naming the known poolings.
    """
    names = (pooling,) if isinstance(pooling, str) else tuple(pooling)
    if not names or not set(names) <= set(get_args(Pooling)):
        raise UserError(f"model.pooling={pooling}: use {', '.join(get_args(Pooling))}, or a list of these")
    return names  # type: ignore[return-value]
