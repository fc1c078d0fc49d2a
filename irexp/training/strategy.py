"""How the weights of a model that is trained on several devices are shared among them.

auto, ddp_spawn   each device holds all weights
fsdp              weights, gradients and the optimizer's state are sharded (FSDP2; Zhao et al. 2023, arXiv:2304.11277)

Each starts child processes that are given this process's objects. Lightning's own choice, to start run.py again for
each device, would run all stages in each.
"""

from __future__ import annotations

import re
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from irexp.config.schema import Machine, Training
from irexp.model.lora import transformers_of
from irexp.model.model import Model
from irexp.types import UserError


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 in child processes; checkpoints are gathered, so that any number of devices opens them."""

    def __init__(self, devices: int) -> None:
        """Shard over all devices."""
        super().__init__(data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def _configure_launcher(self) -> None:
        self._launcher = _MultiProcessingLauncher(self, start_method="spawn")


def make_strategy(machine: Machine, training: Training) -> str | Strategy:
    """Lightning's strategy.

    Raises:
        UserError: if it does not fit the machine or the training.
    """
    name, devices = machine.strategy, machine.devices * machine.num_nodes
    if name == "ddp":
        raise UserError("machine.strategy=ddp would start run.py again for each device; use ddp_spawn or auto")
    if name.startswith("deepspeed"):
        raise UserError(
            f"machine.strategy={name}: DeepSpeed would start run.py again for each device; fsdp shards weights, "
            f"gradients and the optimizer's state in the same way"
        )
    if name != "fsdp":
        return "ddp_spawn" if name == "auto" and devices > 1 else name
    if devices == 1:
        raise UserError("machine.strategy=fsdp shares the weights among devices; set machine.devices, or strategy=auto")
    if training.ema_decay is not None:
        raise UserError(
            "machine.strategy=fsdp keeps no average of the weights; set training.ema_decay=null, or "
            "machine.strategy=ddp_spawn"
        )
    return ShardedStrategy(devices)


#: The name of a transformer's layer that is not within another one.
_LAYER = re.compile(r"(?:\D*\.)?(?:layer|layers|block|h)\.\d+")


def shard(model: Model, mesh: Any) -> None:
    """Shard each layer of the model's transformers, then what is left, in place."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for encoder in transformers_of(model).values():
        for name, module in encoder.named_modules():
            if _LAYER.fullmatch(name):
                fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in ("encode_queries", "encode_documents", "score_pairs"):  # called in place of `forward`
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)
