"""How several devices share a training: each holds all weights, and they average the gradients once per step."""

from __future__ import annotations

from irexp.config.schema import Machine
from irexp.types import UserError

#: The beginnings of the names of strategies that shard the weights.
_SHARDED = ("fsdp", "deepspeed", "model_parallel")


def strategy_of(machine: Machine) -> str:
    """The name of Lightning's strategy: with several devices, child processes that are given this process's objects.

    Lightning's `ddp` would start run.py again for each device, and each would run all stages.

    Raises:
        UserError: if a strategy starts run.py again, or shards the weights, which irexp does not gather again.
    """
    if machine.strategy == "ddp":
        raise UserError("machine.strategy=ddp would start run.py again for each device; use ddp_spawn or auto")
    if machine.strategy.startswith(_SHARDED):
        raise UserError(
            f"machine.strategy={machine.strategy}: sharded weights are not supported; for less memory set "
            f"adapter=lora, training.chunk_size or machine.gradient_checkpointing=true, with strategy=auto"
        )
    is_alone = machine.devices * machine.num_nodes == 1
    return "ddp_spawn" if machine.strategy == "auto" and not is_alone else machine.strategy
