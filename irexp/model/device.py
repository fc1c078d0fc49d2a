"""The device that a machine's settings choose, and the batch that suits it."""

from __future__ import annotations

import torch

#: Values of a layer's output per batch on a processor: so few that a layer's activations stay in the cache of a core.
PROCESSOR_VALUES = 327_680

#: The fewest tokens per batch on a processor, which must share the reading of the weights, and the most.
FEWEST_TOKENS, MOST_TOKENS = 640, 2048

#: The width from which a training on a processor pays for forward passes of few tokens.
WIDE = 256

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


def budget_of(device: torch.device, width: int) -> int:
    """The tokens per batch that suit a device: many on a GPU, in proportion to its memory; few on a processor.

    Args:
        device: where batches are computed.
        width: the dimensions of a token in the transformer. With 128 a processor was fastest with 2,048 tokens, with
            384 with 768 to 1,024, and with 768 with any number above 640 (experiments/speed).
    """
    if device.type == "cuda":
        gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        return min(LARGEST_BUDGET, int(gib * TOKENS_PER_GIB))
    if device.type == "cpu":
        return min(MOST_TOKENS, max(FEWEST_TOKENS, PROCESSOR_VALUES // width))
    return OTHER_BUDGET


def forward_budget_of(device: torch.device, width: int) -> int | None:
    """The tokens per forward pass of a training; None for the whole batch at once.

    Args:
        device: where the model is trained.
        width: the dimensions of a token in the transformer. With 384 a processor trained 1.4 times as fast in forward
            passes of few tokens, which are padded less; with 128 no faster (experiments/speed).
    """
    return budget_of(device, width) if device.type == "cpu" and width >= WIDE else None
