"""Where a stage runs: threads, device, and how several devices and nodes share its work."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from irexp.config.schema import Machine

if TYPE_CHECKING:
    import torch

#: What a process does: with its device, its rank, and the number of processes.
Work = Callable[["torch.device", int, int], object]


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


def is_helper(machine: Machine) -> bool:
    """Whether this is another node than the first, which alone writes artifacts.

    Each node runs the same command over the same folder of artifacts. Which one it is say NODE_RANK, or what torchrun
    and Slurm call it.
    """
    names = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")
    return machine.num_nodes > 1 and any(os.environ.get(name, "0") != "0" for name in names)


def share_work(work: Work, machine: Machine, device: torch.device) -> None:
    """Do what several devices share: here if there is one, else in a process for each, through Lightning."""
    if machine.devices * machine.num_nodes == 1:
        work(device, 0, 1)
        return
    from lightning.fabric import Fabric

    fabric = Fabric(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        strategy="ddp_spawn" if machine.strategy == "auto" else machine.strategy,
    )
    fabric.launch(partial(_in_process, work=work, threads=machine.threads))


def _in_process(fabric: Any, work: Work, threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or max(1, (os.cpu_count() or 2) // fabric.world_size))
    work(fabric.device, fabric.global_rank, fabric.world_size)
    fabric.barrier()
