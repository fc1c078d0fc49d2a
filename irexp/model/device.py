"""The device that a machine's settings choose, and the batch that suits it."""

from __future__ import annotations

import torch

#: Tokens per batch on a processor: few, so that the activations of a batch stay in its cache.
PROCESSOR_BUDGET = 2048

#: Tokens per batch on a GPU for each GiB of its memory, and the most: an H200 encoded no faster with more.
TOKENS_PER_GIB, LARGEST_BUDGET = 2048, 131_072

#: Tokens per batch on other devices, of whose memory torch knows nothing.
OTHER_BUDGET = 8192


def device_of(accelerator: str) -> torch.device:
    """The device of `machine.accelerator`; `auto` takes a GPU if there is one."""
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def budget_of(device: torch.device) -> int:
    """The tokens per batch that suit a device: many on a GPU, in proportion to its memory; few on a processor."""
    if device.type == "cuda":
        gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        return min(LARGEST_BUDGET, int(gib * TOKENS_PER_GIB))
    return PROCESSOR_BUDGET if device.type == "cpu" else OTHER_BUDGET
