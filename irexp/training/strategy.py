"""How several devices share a training.

auto, ddp_spawn     each device holds all weights, and they average the gradients once per step
fsdp                each device holds a share of the weights, see `irexp.training.sharding`
deepspeed           each device holds all weights, and a share of the optimizer's state, see `irexp.training.zero`
deepspeed_stage_3   each device holds a share of both

Each starts child processes that are given this process's objects. Lightning's `ddp` would start run.py again for each
device, and each would run all stages.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import Strategy
from torch.optim import Optimizer

from irexp.config.installation import install_command
from irexp.config.schema import Machine, Training
from irexp.training.eight_bit import adamw_8bit
from irexp.training.nodes import meeting_point, node_rank
from irexp.training.sharding import ShardedStrategy
from irexp.training.zero import ZeroStrategy
from irexp.types import UserError

#: The strategies that use the package deepspeed, with ZeRO's stage.
_ZERO_STAGES = {"deepspeed": 2, "deepspeed_stage_3": 3}


class Nodes(LightningEnvironment):
    """The environment of nodes that each start their own processes.

    Inside a Slurm job Lightning would read the rank of a process from Slurm's variables, which count the tasks that
    Slurm started, not the processes that irexp starts.
    """

    def __init__(self, num_nodes: int) -> None:
        """Set the number of nodes; if there are several, environment variables tell them apart."""
        super().__init__()
        self._num_nodes = num_nodes

    def node_rank(self) -> int:
        """The rank of this node."""
        return node_rank(self._num_nodes)

    @property
    def main_address(self) -> str:
        """The address of the first node."""
        return super().main_address if self._num_nodes == 1 else meeting_point()[0]

    @property
    def main_port(self) -> int:
        """The port on the first node."""
        return super().main_port if self._num_nodes == 1 else meeting_point()[1]


def strategy_of(machine: Machine) -> str | Strategy:
    """Lightning's strategy, or its name."""
    devices = machine.devices * machine.num_nodes
    if machine.strategy == "fsdp":
        return ShardedStrategy(devices)
    if machine.strategy in _ZERO_STAGES:
        return ZeroStrategy(_ZERO_STAGES[machine.strategy])
    return "ddp_spawn" if machine.strategy == "auto" and devices > 1 else machine.strategy


def check_strategy(machine: Machine, training: Training, optimizer: Callable[..., Optimizer]) -> None:
    """Check that the strategy can be had, and fits the training.

    Raises:
        UserError: if it needs a package or several devices, or lacks what a setting asks for.
    """
    name = machine.strategy
    if name != "fsdp" and name not in _ZERO_STAGES:
        return
    if machine.devices * machine.num_nodes == 1:
        raise UserError(
            f"machine.strategy={name} shares the optimizer's state among several devices, and there is one; set "
            f"machine.devices, or machine.strategy=auto"
        )
    lacking = {
        "training.ema_decay": training.ema_decay is not None and name != "deepspeed",  # which holds all weights
        "training.precision=16-mixed": training.precision == "16-mixed",
        "machine.compile=true": machine.compile,
        "optimizer=adamw_8bit": getattr(optimizer, "func", optimizer) is adamw_8bit,
    }
    if found := [setting for setting, is_set in lacking.items() if is_set]:
        raise UserError(
            f"{found[0]} does not work with machine.strategy={name}; change it, or set machine.strategy=auto"
        )
    if name in _ZERO_STAGES and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"machine.strategy={name} needs the package deepspeed: {install_command('deepspeed')}, or set "
            f"machine.strategy=fsdp"
        )
