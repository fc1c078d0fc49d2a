"""A transformer in bfloat16: a copy whose weights and activations are rounded, which stands in for it.

Autocast alone would round the inputs of each product every time and leave everything between the products in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def in_bfloat16(encoder: PreTrainedModel) -> AbstractContextManager[None]:
    """A context in which calls of a transformer are computed in bfloat16; one that is not in fp32 stays as it is."""
    if any(parameter.dtype != torch.float32 for parameter in encoder.parameters()):
        return nullcontext()
    half: nn.Module = deepcopy(encoder)
    half.to(torch.bfloat16)

    def forward(**inputs: Any) -> Any:
        with torch.autocast(encoder.device.type, enabled=False):
            return half(**inputs)

    return replaced_forward(encoder, forward)


@contextmanager
def replaced_forward(encoder: PreTrainedModel, forward: Callable[..., Any]) -> Iterator[None]:
    """Within this context, calls of a transformer are calls of another function."""
    before = vars(encoder).get("forward")
    encoder.forward = forward
    try:
        yield
    finally:
        del encoder.forward
        if before is not None:
            encoder.forward = before
