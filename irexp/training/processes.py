"""What the processes of several devices and nodes need: where they find one another, and how their errors come back."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.multiprocessing.spawn import ProcessRaisedException

from irexp.training.nodes import node_rank
from irexp.types import UserError

#: The line of a traceback with a type that may be raised again.
_RAISED = re.compile(r"^((?:irexp|torch)(?:\.\w+)+): ", re.MULTILINE)

#: The ports that a Slurm job's number leads to.
_FIRST_PORT, _PORTS = 15_000, 10_000


class Nodes(LightningEnvironment):
    """Nodes of which each starts its own processes.

    Inside a Slurm job Lightning would read the rank of a process from Slurm's variables, which count the tasks that
    Slurm started, and not the processes that are started here.
    """

    def __init__(self, num_nodes: int) -> None:
        """So many nodes; of several, the variables of torchrun, Slurm or the user say which one this is."""
        super().__init__()
        self._num_nodes = num_nodes

    def node_rank(self) -> int:
        """The number of this node."""
        return node_rank(self._num_nodes)

    @property
    def main_address(self) -> str:
        """The first node: MASTER_ADDR, or the first of Slurm's list."""
        nodes = os.environ.get("SLURM_JOB_NODELIST")
        if self._num_nodes == 1 or nodes is None or "MASTER_ADDR" in os.environ:
            return super().main_address
        return SLURMEnvironment.resolve_root_node_address(nodes)

    @property
    def main_port(self) -> int:
        """Its port: MASTER_PORT, or one that follows from the number of Slurm's job, the same on every node."""
        job = os.environ.get("SLURM_JOB_ID")
        if self._num_nodes == 1 or job is None or "MASTER_PORT" in os.environ:
            return super().main_port
        return _FIRST_PORT + int(job) % _PORTS


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise an error of a process that was started here as itself, if it is one for the user or of a GPU's memory.

    torch hands over the text of its traceback.
    """
    try:
        yield
    except ProcessRaisedException as error:
        found = _last_error(error.msg)
        if found is None:
            raise
        raise found from None


def _last_error(traceback: str) -> Exception | None:
    """The error that a traceback ends with; None if it is of another type."""
    raised = [match for match in _RAISED.finditer(traceback)]
    if not raised or "\nTraceback (most recent call last):" in traceback[raised[-1].end() :]:
        return None
    module, _, name = raised[-1][1].rpartition(".")
    kind = getattr(importlib.import_module(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, UserError | torch.OutOfMemoryError)):
        return None
    found: Exception = kind(traceback[raised[-1].end() :].rstrip("\n"))
    return found
