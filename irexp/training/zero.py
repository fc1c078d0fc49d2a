"""ZeRO by the package deepspeed (Rajbhandari et al. 2020, arXiv:1910.02054), which shares a training's memory.

deepspeed           stage 2: each device holds all weights, and a share of their gradients and of the optimizer's state
deepspeed_stage_3   each device holds a share of the weights, too; those of a layer are gathered while it computes

Weights and gradients are fp32, and bf16-mixed is torch's autocast, as with the other strategies; but stage 3 adds a
layer's bias in an operation of its own, which rounds once more in bf16. What is saved is whole, in the layout of a
training on one device: so checkpoints open everywhere, and a killed training may be resumed with another strategy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer

from irexp.training.sharding import Launcher, read_lazily

#: The most gradients that are sent at once, through a buffer of that size.
_BUCKET = 200_000_000


@dataclass(frozen=True)
class _Share:
    """The values of a parameter that this process updates: `count` from `start` on, in `flat` from `offset` on."""

    flat: Tensor
    offset: int
    start: int
    count: int


class ZeroStrategy(DDPStrategy):
    """DeepSpeed's engine, in child processes that are given this process's objects.

    Lightning's own strategy demands CUDA, starts run.py again for each device, and saves a folder of shares.
    """

    def __init__(self, stage: int) -> None:
        """Choose ZeRO's stage: 2 or 3."""
        super().__init__(start_method="spawn")
        self.gathers_weights = stage == 3
        self._engine: Any = None
        self._groups: list[list[Parameter]] = []
        self._shapes: dict[Parameter, torch.Size] = {}

    @property
    def handles_gradient_accumulation(self) -> bool:
        """True: `optimizer_step` is called for each batch, because the engine counts them."""
        return True

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self, start_method="spawn")

    def setup_environment(self) -> None:
        """Have deepspeed compute where the trainer does; it would take a GPU wherever there is one."""
        os.environ["DS_ACCELERATOR"] = self.root_device.type
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Move the module to the device; if it will be trained, the engine then shares its weights and optimizer."""
        if trainer.state.fn != TrainerFn.FITTING:
            super().setup(trainer)
            return
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        self.model_to_device()
        self.setup_optimizers(trainer)
        self._groups = [list(group["params"]) for group in self._optimizer.param_groups]
        self._shapes = {parameter: parameter.shape for group in self._groups for parameter in group}
        self.model = self._engine = self._started(trainer)

    def _started(self, trainer: Trainer) -> Any:
        """The engine."""
        import deepspeed

        deepspeed.ops.__compatible_ops__ = {}  # torch's operators suffice, and compiling others would take minutes
        config = {
            "train_micro_batch_size_per_gpu": 1,  # demanded, but decides only a report
            "gradient_accumulation_steps": trainer.accumulate_grad_batches,
            "gradient_clipping": trainer.gradient_clip_val or 0.0,
            "zero_optimization": {
                "stage": 3 if self.gathers_weights else 2,
                "reduce_bucket_size": min(_BUCKET, sum(shape.numel() for shape in self._shapes.values())),
            },
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {
                "enabled": trainer.precision == "bf16-mixed",
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],  # no gradient is sent in bf16
            },
        }
        engine, *_ = deepspeed.initialize(
            model=self.model, optimizer=self._optimizer, config=config, dist_init_required=False
        )
        return engine

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any) -> Tensor:
        """Compute and share the gradients of a loss that Lightning has divided by the number of accumulated batches."""
        self._engine.backward(closure_loss, scale_wrt_gas=False)
        return closure_loss

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Module | None = None, **kwargs: Any
    ) -> Any:
        """Train on a batch; after the last of those that are accumulated, clip the gradients and take the step."""
        loss = closure()
        self._engine.step()
        return loss

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole trained weights, each held once if it has two names; empty in all processes but the first."""
        if self._engine is None:
            return super().lightning_module_state_dict()
        import deepspeed

        assert self.lightning_module is not None
        found = self.lightning_module.state_dict()
        whole: dict[Parameter, Tensor] = {}
        for name, parameter in self.lightning_module.named_parameters(remove_duplicate=False):
            if parameter not in self._shapes:
                found.pop(name, None)
            elif parameter not in whole:
                with deepspeed.zero.GatheredParameters([parameter]):
                    whole[parameter] = parameter.detach().cpu().clone() if self.is_global_zero else parameter.detach()
            if parameter in whole:
                found[name] = whole[parameter]
        return found if self.is_global_zero else {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, as `optimizer.state_dict()` has it on one device; empty in all processes but the first."""
        state: dict[int, dict[str, Any]] = {}
        for number, (parameter, share) in enumerate(self._shares().items()):
            held = self._optimizer.state.get(share.flat, {})
            state[number] = {
                key: value.cpu().clone() if key == "step" else self._whole(value, share, self._shapes[parameter])
                for key, value in held.items()
            }
        numbers = iter(range(len(self._shapes)))
        groups = [
            group | {"params": [next(numbers) for _ in parameters]}
            for group, parameters in zip(self._optimizer.param_groups, self._groups, strict=True)
        ]
        return {"state": state, "param_groups": groups} if self.is_global_zero else {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The file's content, which is read only when a tensor is used."""
        return read_lazily(checkpoint_path, weights_only=weights_only is not False)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of the optimizer's state."""
        (saved,) = checkpoint["optimizer_states"]
        for group, values in zip(self._optimizer.param_groups, saved["param_groups"], strict=True):
            group.update({key: value for key, value in values.items() if key != "params"})
        is_fused = any(group.get("fused") for group in self._optimizer.param_groups)
        for number, share in enumerate(self._shares().values()):
            held = self._optimizer.state[share.flat]
            for key, value in saved["state"].get(number, {}).items():
                if key == "step":  # on the processor, unless a fused kernel reads it
                    held[key] = value.to(share.flat.device) if is_fused else value.clone()
                    continue
                part = held.setdefault(key, torch.zeros_like(share.flat))
                part[share.offset :][: share.count] = value.flatten()[share.start :][: share.count]

    def teardown(self) -> None:
        """Leave the module on its device, where the launcher gathers its weights."""
        if self._engine is None:
            super().teardown()
            return
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    @property
    def _optimizer(self) -> Optimizer:
        """Torch's optimizer, whose parameters the engine has replaced by flat tensors."""
        (optimizer,) = self.optimizers
        return optimizer

    def _shares(self) -> dict[Parameter, _Share]:
        """What this process updates of each parameter, in the order of the optimizer's groups."""
        zero, found = self._engine.optimizer, {}
        for number, parameters in enumerate(self._groups):
            for parameter in parameters:
                if self.gathers_weights:
                    part, offset, count = zero.grad_position[zero.get_param_id(parameter)]
                    start = self.global_rank * count
                    count = max(0, min(count, self._shapes[parameter].numel() - start))  # the rest is padding
                    found[parameter] = _Share(zero.fp32_partitioned_groups_flat[part], offset, start, count)
                    continue
                flat, held = zero.single_partition_of_fp32_groups[number], vars(parameter)["_hp_mapping"]
                if held is None:
                    found[parameter] = _Share(flat, 0, 0, 0)
                else:
                    place = held.hp_fragment_address
                    found[parameter] = _Share(flat, place.start, held.lp_fragment_address.start, place.numel)
        return found

    def _whole(self, flat: Tensor, share: _Share, shape: torch.Size) -> Tensor:
        """A value per weight of a parameter, from all processes."""
        whole = torch.zeros(shape.numel(), device=self.root_device)
        whole[share.start :][: share.count] = flat[share.offset :][: share.count]
        torch.distributed.all_reduce(whole)
        return whole.view(shape).cpu()
