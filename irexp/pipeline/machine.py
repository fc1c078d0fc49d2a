"""Where a stage runs: threads, device, and how several devices and nodes share its work."""

from __future__ import annotations

import ctypes
import gc
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from irexp.artifact.hardware import usable_processors
from irexp.config.schema import Machine
from irexp.training.nodes import meeting_point, node_rank
from irexp.types import UserError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import torch

    from irexp.model.batching import TokenBudget
    from irexp.model.model import Model

log = logging.getLogger(__name__)

#: How long a finished process waits for the others.
_TIMEOUT = timedelta(days=7)

#: Parameters of glibc's `mallopt`, and their values in bytes: freed memory that a process keeps, and the size from
#: which a piece of memory is fetched from the system each time, whose highest value this is.
_KEPT_MEMORY, _OWN_PIECE = (-1, 2**29), (-3, 2**25)

#: The share of a stage that this process makes, and the number of shares; None for all of the stage.
_SHARE: ContextVar[tuple[int, int] | None] = ContextVar("share", default=None)

#: A process's share of the work: called with its device, its rank and the number of processes.
Work = Callable[["torch.device", int, int], object]


def prepare(machine: Machine) -> torch.device:
    """Set the threads of this process, and how a processor's memory is kept, and choose its device.

    The default is one thread fewer than the cores that this process may use, because every operation waits for the
    slowest thread: of two cores, both took 0.73 of one's time for a training, and 2 times as long while another program
    used one of them (10 times while several did). Threads that do not spin while they wait gain nothing over one.
    """
    import torch

    from irexp.model.device import device_of

    threads = machine.threads or max(1, usable_processors() - 1)
    torch.set_num_threads(threads)
    device = device_of(machine.accelerator)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        if machine.devices > (gpus := torch.cuda.device_count()):
            seen = f"{gpus} GPU{'s' * (gpus > 1)}"
            raise UserError(
                f"machine.devices={machine.devices}, but torch sees {seen} here; set machine.devices={gpus}"
            )
        gc.collect()
        torch.cuda.empty_cache()  # cached by earlier stages; faiss and other processes cannot use it
    elif machine.accelerator == "gpu":
        raise UserError("machine.accelerator=gpu, but torch sees no GPU here; use machine=cpu, or install a CUDA build")
    return device


def keep_freed_memory() -> None:
    """Let C's allocator keep what a training step frees for the next one.

    Otherwise it gives the memory back to the system, which clears it again: of ten page faults eight, and of the time
    of two trainings side by side 2 to 4 %. Where the C library is not glibc, nothing changes.
    """
    with suppress(OSError, AttributeError):
        for parameter, value in (_KEPT_MEMORY, _OWN_PIECE):
            ctypes.CDLL(None).mallopt(parameter, value)


def token_budget(machine: Machine, model: Model, device: torch.device, processes: int = 1) -> TokenBudget:
    """Tokens per batch, and batches at the same time: what the machine's settings say, or what suits model and device.

    On a processor, each process has its share of the cores that this machine gives to all of them.

    Args:
        machine: the settings.
        model: what computes the batches.
        device: where it computes them.
        processes: that divide the work among them, those on other machines and of other tasks included.
    """
    from irexp.model.batching import TokenBudget

    workers = machine.threads or max(1, usable_processors() // min(processes, machine.devices))
    return TokenBudget.of(model, device, machine.token_budget, workers=workers)


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not train in, since Lightning would silently train in another one.

    Raises:
        UserError: naming a precision that the device has.
    """
    if device.type == "mps" and precision != "32-true":
        raise UserError(f"training.precision={precision} would train in fp32 on an Apple GPU; set 32-true")
    if device.type == "cpu" and precision == "16-mixed":
        raise UserError(
            "training.precision=16-mixed would train in bf16 on a processor, which has no fp16; set bf16-mixed or "
            "32-true, or train on a GPU"
        )
    if precision == "bf16-mixed":
        warn_of_slow_bfloat16("training.precision=bf16-mixed", "32-true", device)


def warn_of_slow_bfloat16(choice: str, faster: str, device: torch.device) -> None:
    """Log a warning if a processor of x86 has no instructions for bfloat16: one took eight times as long as in fp32.

    Args:
        choice: the setting.
        faster: the value for fp32.
        device: where it is computed.
    """
    import torch

    is_x86 = platform.machine() in ("x86_64", "AMD64")
    if device.type == "cpu" and is_x86 and not torch.cpu._is_avx512_bf16_supported():
        log.warning(
            "%s: this processor has no instructions for bfloat16 and computes it far more slowly than fp32; set %s",
            choice,
            faster,
        )


@contextmanager
def making_share(share: tuple[int, int] | None) -> Iterator[None]:
    """Within the block, make the n-th of so many shares of what a stage makes, which another process completes later.

    Args:
        share: n, from 0, and how many shares there are; None for all of it.
    """
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def share() -> tuple[int, int] | None:
    """The share of `making_share`."""
    return _SHARE.get()


def is_helper(machine: Machine) -> bool:
    """Whether this process completes no artifact: it makes a share, or is not on the first of several nodes.

    Every node runs the same command on the same folder of artifacts.
    """
    return share() is not None or node_rank(machine.num_nodes) != 0


def share_work(work: Work, machine: Machine, device: torch.device) -> None:
    """Run work that devices share: one device in this process, several in one process each.

    Of a share, the devices make that. The processes need nothing of one another but to be waited for, which takes no
    Lightning: importing that takes each of them eight seconds.
    """
    number, shares = share() or (0, 1)
    if machine.devices * machine.num_nodes == 1:
        work(device, number, shares)
        return
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import spawn

    from irexp.training.processes import own_errors

    meeting = meeting_point() if machine.num_nodes > 1 else None
    shared = _Shared(work, machine, device.type, node_rank(machine.num_nodes), meeting, number, shares)
    log.info("starting %d processes", machine.devices)
    pipes = [get_context("spawn").Pipe(duplex=False) for _ in range(machine.devices)]
    with own_errors():
        # what a process is started with must fit into a pipe, or the next one would start when it has imported all
        started = spawn(_receive, ([reader for reader, _ in pipes],), machine.devices, join=False)  # type: ignore[no-untyped-call]
        for reader, _ in pipes:
            reader.close()
        for _, writer in pipes:
            with suppress(BrokenPipeError), writer:  # of a process that has ended, whose error follows
                writer.send(shared)
        while not started.join():
            pass


def _receive(local_rank: int, readers: list[Connection]) -> None:
    """Do the work that is sent to this process."""
    for rank, reader in enumerate(readers):
        if rank != local_rank:
            reader.close()
    with readers[local_rank] as reader:
        shared = reader.recv()
    shared.run(local_rank)


@dataclass(frozen=True)
class _Shared:
    """Work that processes share.

    Attributes:
        work: see `share_work`.
        machine: the settings.
        kind: of the devices.
        node: the rank of this node.
        meeting: where the processes of several nodes meet; None on one node.
        number: the share that all of them make.
        shares: how many such shares there are.
    """

    work: Work
    machine: Machine
    kind: str
    node: int
    meeting: tuple[str, int] | None
    number: int
    shares: int

    def run(self, local_rank: int) -> None:
        """Do the part of a process of this node, and wait for the other nodes."""
        import torch
        from torch import distributed

        devices = self.machine.devices
        torch.set_num_threads(self.machine.threads or max(1, usable_processors() // devices))
        processes, rank = devices * self.machine.num_nodes, self.node * devices + local_rank
        device = torch.device(self.kind, local_rank) if self.kind == "cuda" else torch.device(self.kind)
        if self.kind == "cuda":
            torch.cuda.set_device(device)
        if self.meeting is not None:
            # gloo rather than NCCL, whose watchdog ends a job in which one process waits half an hour for another
            place = "tcp://{}:{}".format(*self.meeting)
            distributed.init_process_group("gloo", place, _TIMEOUT, world_size=processes, rank=rank)
        self.work(device, self.number * processes + rank, self.shares * processes)
        if self.meeting is not None:
            distributed.barrier()
            distributed.destroy_process_group()
