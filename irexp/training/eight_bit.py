"""Optimizers of the package bitsandbytes, whose state takes 8 bits per value."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from irexp.config.installation import install_command
from irexp.types import UserError


def adamw_8bit(
    params: Any,
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """AdamW whose two moments take 8 bits per weight, by bitsandbytes (Dettmers et al. 2021, arXiv:2110.02861).

    Raises:
        UserError: if bitsandbytes is not installed, or there is no GPU.
    """
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UserError(
            f"optimizer=adamw_8bit needs the package bitsandbytes: {install_command('bitsandbytes')}, or set "
            f"optimizer=adamw"
        ) from None
    if not torch.cuda.is_available():
        raise UserError("optimizer=adamw_8bit needs an NVIDIA GPU, and torch sees none here; set optimizer=adamw")
    made: Optimizer = AdamW8bit(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)
    return made
