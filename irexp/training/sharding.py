"""Sharded training (FSDP2): each device holds a share of the weights, of their gradients and of the optimizer's state.

A layer's weights are gathered while it computes, and released after it, by torch's `fully_shard`. Source: Zhao et al.
2023, arXiv:2304.11277.

What is saved is whole, in the layout of a training on one device: so checkpoints open everywhere, and a killed training
may be resumed with another strategy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn import Module, Parameter
from torch.optim import Optimizer
from transformers.modeling_layers import GradientCheckpointingLayer


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, in child processes that are given this process's objects."""

    gathers_weights = True

    def __init__(self, devices: int) -> None:
        """Shard over all devices of all nodes."""
        super().__init__(data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: `load_optimizer_state_dict` is called."""
        return True

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self, start_method="spawn")

    @property
    def _sharded(self) -> Module:
        assert self.model is not None
        return self.model

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole trained weights, each held once if it has two names; empty in all processes but the first."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        found = get_model_state_dict(self._sharded, options=options)
        first: dict[Parameter, str] = {}
        for name, parameter in self._sharded.named_parameters(remove_duplicate=False):
            if name in found:
                found[name] = found[first.setdefault(parameter, name)]
        return found

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, as `optimizer.state_dict()` has it on one device; empty in all processes but the first."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found: dict[str, Any] = get_optimizer_state_dict(
            self._sharded, getattr(optimizer, "_optimizer", optimizer), options=options
        )
        names = [name for group in found.get("param_groups", ()) for name in group["params"]]
        return _renamed(found, {name: number for number, name in enumerate(names)}) if found else {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The file's content, which is read only when a tensor is used: each process needs its share alone."""
        return read_lazily(checkpoint_path, weights_only=weights_only is not False)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's share of the weights; a module with two names is saved twice and loaded once."""
        names = {name for name, _ in (*self._sharded.named_parameters(), *self._sharded.named_buffers())}
        state = {name: value for name, value in checkpoint["state_dict"].items() if name in names}
        set_model_state_dict(self._sharded, state, options=StateDictOptions(full_state_dict=True, strict=False))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of the optimizer's state."""
        name_of = {parameter: name for name, parameter in self._sharded.named_parameters()}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = [name_of[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            set_optimizer_state_dict(
                self._sharded,
                optimizer,
                _renamed(state, dict(enumerate(names))),
                options=StateDictOptions(full_state_dict=True),
            )


class Launcher(_MultiProcessingLauncher):
    """Starts the child processes; the first one returns the whole weights, in a file in the trainer's folder."""

    def _collect_rank_zero_results(self, trainer: Trainer, results: Any) -> Any:
        if trainer.state.fn == TrainerFn.FITTING:
            weights = trainer.strategy.lightning_module_state_dict()  # gathered by all processes
            # what Lightning's launcher writes
            trainer.lightning_module.state_dict = lambda: weights  # type: ignore[method-assign,assignment]
            tempfile.tempdir = trainer.default_root_dir
        return super()._collect_rank_zero_results(trainer, results)


def shard(module: LightningModule) -> None:
    """Shard each layer of the transformers, then what is left, in place.

    A step is the forward pass that gathers what is left, because models are called by other methods than `forward`.

    Args:
        module: a module whose strategy has set its `device_mesh`.
    """
    assert module.device_mesh is not None
    layers = [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for part in (*reversed(layers), module):  # from the inside out
        fully_shard(part, mesh=module.device_mesh["data_parallel"])
    for method in ("training_step", "validation_step"):
        register_fsdp_forward_method(module, method)


def gathers_weights(strategy: Strategy | str) -> bool:
    """Whether a forward pass gathers the weights from all processes, so that each must run as many as the others."""
    return bool(getattr(strategy, "gathers_weights", False))


def read_lazily(path: Any, *, weights_only: bool) -> dict[str, Any]:
    """A checkpoint's content, whose tensors are read from the file when they are used."""
    found: dict[str, Any] = torch.load(path, mmap=True, map_location="cpu", weights_only=weights_only)
    return found


def _renamed(state: dict[str, Any], new: Mapping[Any, Any]) -> dict[str, Any]:
    """The state of an optimizer with other names, or numbers, of its parameters."""
    groups = [group | {"params": [new[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {new[name]: value for name, value in state["state"].items()}, "param_groups": groups}
