"""Gradient checkpointing of a model's transformers (Chen et al. 2016, arXiv:1604.06174).

Each layer keeps its input alone; the backward pass computes its activations again, with the same random numbers. So the
weights after a step are the same, for a third more time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from irexp.model.lora import transformers_of
from irexp.model.model import Model
from irexp.types import UserError


@contextmanager
def checkpointed(model: Model, is_wanted: bool) -> Iterator[None]:
    """In the block, train with gradient checkpointing, if it is wanted.

    Raises:
        UserError: if transformers does not offer it for the architecture.
    """
    layers: list[Any] = []
    for encoder in transformers_of(model).values() if is_wanted else ():
        found = [module for module in encoder.modules() if hasattr(module, "gradient_checkpointing")]
        if not found or not encoder.supports_gradient_checkpointing:
            raise UserError(
                f"machine.gradient_checkpointing=true: transformers does not offer it for a {type(encoder).__name__}; "
                f"set it to false, and training.chunk_size for less memory"
            )
        layers += found
    # transformers' own method adds a hook that stays, and that a child process cannot be given
    for layer in layers:
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        layer.gradient_checkpointing = True
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = False
