"""Where a stage runs: threads and device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from irexp.config.schema import Machine

if TYPE_CHECKING:
    import torch


def prepare(machine: Machine) -> torch.device:
    """Set the threads of this process and choose its device.

    One thread fewer than there are cores is the default: two torch threads on two cores of which something else takes
    a share were up to ten times slower than one, because every operation waits for the slower thread.
    """
    import torch

    threads = machine.threads or max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(threads)
    if machine.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if machine.accelerator == "gpu":
        from irexp.types import UserError

        raise UserError("machine.accelerator=gpu, but torch sees no GPU here; use machine=cpu, or install a CUDA build")
    if machine.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
