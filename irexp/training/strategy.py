"""How several devices share a training.

auto, ddp_spawn   each device holds all weights, and they average the gradients once per step
fsdp              each device holds a share of the weights, see `irexp.training.sharding`

Each starts child processes that are given this process's objects. Lightning's `ddp` would start run.py again for each
device, and each would run all stages.
"""

from __future__ import annotations

from lightning.pytorch.strategies import Strategy

from irexp.config.schema import Machine
from irexp.training.eight_bit import adamw_8bit
from irexp.training.setup import TrainingSetup
from irexp.training.sharding import ShardedStrategy
from irexp.types import UserError


def strategy_of(machine: Machine) -> str | Strategy:
    """Lightning's strategy, or its name."""
    devices = machine.devices * machine.num_nodes
    if machine.strategy == "fsdp":
        return ShardedStrategy(devices)
    return "ddp_spawn" if machine.strategy == "auto" and devices > 1 else machine.strategy


def check_strategy(setup: TrainingSetup) -> None:
    """Check that the strategy can be had, and fits the training.

    Raises:
        UserError: if it starts run.py again, shards weights in a way that irexp does not gather again, or lacks what a
            setting asks for.
    """
    name, training = setup.machine.strategy, setup.training
    if name == "ddp":
        raise UserError("machine.strategy=ddp would start run.py again for each device; use ddp_spawn or auto")
    if name.startswith(("fsdp_", "deepspeed", "model_parallel")):
        raise UserError(
            f"machine.strategy={name} is not supported; set machine.strategy=fsdp, which shards weights, gradients and "
            f"the optimizer's state among the devices"
        )
    if name != "fsdp":
        return
    if setup.machine.devices * setup.machine.num_nodes == 1:
        raise UserError(
            "machine.strategy=fsdp shards the weights among several devices, and there is one; set machine.devices, or "
            "machine.strategy=auto"
        )
    lacking = {
        "training.ema_decay": training.ema_decay is not None,
        "training.precision=16-mixed": training.precision == "16-mixed",
        "machine.compile=true": setup.machine.compile,
        "optimizer=adamw_8bit": getattr(setup.optimizer, "func", setup.optimizer) is adamw_8bit,
    }
    if found := [setting for setting, is_set in lacking.items() if is_set]:
        raise UserError(
            f"{found[0]} does not work with weights that are sharded by machine.strategy=fsdp; change it, or set "
            f"machine.strategy=auto"
        )
