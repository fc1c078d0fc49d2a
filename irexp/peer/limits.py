"""What one thread of this machine, or its GPU, can do at most: products in two precisions, and reading memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch


@dataclass(frozen=True)
class Limits:
    """Rates of one thread, or of a GPU.

    Attributes:
        fp32: floating-point operations per second, in thousand millions.
        bf16: the same in bfloat16.
        read: bytes read from memory per second, in thousand millions.
    """

    fp32: float
    bf16: float
    read: float


def measure_limits(rows: int, inner: int, columns: int, device: torch.device) -> Limits:
    """The best of some repetitions.

    Args:
        rows: of the first matrix, such as the tokens of a batch.
        inner: the dimensions that are summed over, such as those of a token.
        columns: of the product, such as the dimensions inside a layer.
        device: what is measured.
    """
    if device.type == "cuda":
        return _of_gpu(rows, inner, columns, device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fp32, bf16 = (_product(rows, inner, columns, dtype) for dtype in (torch.float32, torch.bfloat16))
        memory = np.ones(2**26, np.float32)
        least = min(seconds(memory.sum) for _ in range(3))
    finally:
        torch.set_num_threads(threads)
    return Limits(fp32, bf16, 1e-9 * memory.nbytes / least)


def _product(rows: int, inner: int, columns: int, dtype: torch.dtype) -> float:
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < 20 and sum(taken) < 1):  # bfloat16 without instructions takes seconds a call
        taken.append(seconds(lambda: torch.nn.functional.linear(left, right)))
    return 2e-9 * rows * inner * columns / min(taken)


def _of_gpu(rows: int, inner: int, columns: int, device: torch.device) -> Limits:
    """The rates of a GPU, whose kernels run one after another; one read of a gigabyte exceeds every cache."""
    rates: list[float] = []
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(count, inner, device=device, dtype=dtype) for count in (rows, columns))
        least = min(_on_gpu(partial(torch.nn.functional.linear, left, right)) for _ in range(20))
        rates.append(2e-9 * rows * inner * columns / least)
    memory = torch.ones(2**28, device=device)
    return Limits(rates[0], rates[1], 1e-9 * memory.nbytes / min(_on_gpu(memory.sum) for _ in range(5)))


def _on_gpu(work: Callable[[], object]) -> float:
    """Seconds of one call on a GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start
