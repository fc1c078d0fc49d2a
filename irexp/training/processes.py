"""Training on several devices and nodes: the address at which processes meet, and how their errors are reported."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from irexp.training.nodes import node_rank
from irexp.types import UserError

#: The line of a traceback with an error's type, of irexp, torch or Optuna.
_RAISED = re.compile(r"^((?:irexp|torch|optuna)(?:\.\w+)+): ", re.MULTILINE)

#: How torch says that a process of a data loader was killed.
_LOADER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\)")

#: The range of ports, from which a Slurm job's number selects one.
_FIRST_PORT, _PORTS = 15_000, 10_000


class Nodes(LightningEnvironment):
    """The environment of nodes that each start their own processes.

    Inside a Slurm job Lightning would read the rank of a process from Slurm's variables, which count the tasks that
    Slurm started, not the processes that irexp starts.
    """

    def __init__(self, num_nodes: int) -> None:
        """Set the number of nodes; if there are several, `node_rank` tells them apart by environment variables."""
        super().__init__()
        self._num_nodes = num_nodes

    def node_rank(self) -> int:
        """The rank of this node."""
        return node_rank(self._num_nodes)

    @property
    def main_address(self) -> str:
        """The address of the first node: MASTER_ADDR, or the first of Slurm's list."""
        nodes = os.environ.get("SLURM_JOB_NODELIST")
        if self._num_nodes == 1 or nodes is None or "MASTER_ADDR" in os.environ:
            return super().main_address
        return SLURMEnvironment.resolve_root_node_address(nodes)

    @property
    def main_port(self) -> int:
        """The port on the first node: MASTER_PORT, or one derived from the Slurm job's number, equal on all nodes."""
        job = os.environ.get("SLURM_JOB_ID")
        if self._num_nodes == 1 or job is None or "MASTER_PORT" in os.environ:
            return super().main_port
        return _FIRST_PORT + int(job) % _PORTS


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise a UserError or out-of-memory error of a child process with its own type, and say if a child was killed.

    torch alone would give only the text of the child's traceback. If this process is stopped, the children that it
    started within the block are killed; otherwise Python would wait at its end until they have finished their work.
    """
    others = {child.pid for child in active_children()}
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for child in active_children():
            if child.pid not in others and not child.daemon:  # daemons end by themselves
                child.kill()
        raise
    except ProcessRaisedException as error:
        found = _last_error(error.msg)
        if found is None:
            raise
        raise found from None
    except ProcessExitedException as error:
        how = f"was killed ({error.signal_name})" if error.signal_name else f"ended with status {error.exit_code}"
        raise UserError(
            f"a process that shares the work {how}, for lack of memory if nobody ended it; use fewer "
            f"machine.devices or smaller batches. The same command resumes where this one stopped."
        ) from None
    except RuntimeError as error:
        if not (killed := _LOADER.search(str(error))):
            raise
        raise UserError(
            f"{killed[0]}, a process that prepares batches, was killed, for lack of memory if nobody ended it; set "
            f"machine.num_workers=0. The same command resumes where this one stopped."
        ) from None


def _last_error(traceback: str) -> Exception | None:
    """The error at the end of a traceback; None for others than UserError, TrialPruned and out of memory."""
    raised = [match for match in _RAISED.finditer(traceback)]
    if not raised or "\nTraceback (most recent call last):" in traceback[raised[-1].end() :]:
        return None
    module, _, name = raised[-1][1].rpartition(".")
    kind = getattr(importlib.import_module(module), name, None)
    if not isinstance(kind, type) or (
        not issubclass(kind, UserError | torch.OutOfMemoryError) and kind.__name__ != "TrialPruned"
    ):
        return None
    found: Exception = kind(traceback[raised[-1].end() :].rstrip("\n"))
    return found
