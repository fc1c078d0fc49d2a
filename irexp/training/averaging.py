"""An exponential moving average of the trained weights (Tarvainen and Valpola 2017, arXiv:1703.01780).

    a_t = d_t a_(t-1) + (1 - d_t) w_t        d_t = min(d, (1 + t) / (10 + t))

The smaller d_t of the first steps lets a short training forget the weights that it started from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import Parameter


class WeightAverage:
    """The average of a module's trained weights, which can take their place."""

    def __init__(self, decay: float) -> None:
        """Choose d; there is no average before `start`."""
        self.decay, self.updates = decay, 0
        self._average: dict[str, torch.Tensor] = {}
        self._is_used = False

    @property
    def has_started(self) -> bool:
        """Whether there is an average."""
        return bool(self._average)

    def start(self, module: nn.Module) -> None:
        """Begin with the module's weights, or with the loaded state, on the device of the weights."""
        trained = _trained(module)
        known = self._average or {name: parameter.detach().clone() for name, parameter in trained.items()}
        self._average = {name: known[name].to(parameter.device) for name, parameter in trained.items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add the weights after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in _trained(module).items():
            self._average[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module, *, is_used: bool) -> None:
        """Exchange average and weights if the module does not already hold the wanted ones."""
        if is_used == self._is_used:
            return
        self._is_used = is_used
        for name, parameter in _trained(module).items():
            held = parameter.detach().clone()
            parameter.copy_(self._average[name])
            self._average[name] = held

    def state(self) -> dict[str, Any]:
        """What a resumed training loads."""
        assert not self._is_used
        return {"updates": self.updates, "average": self._average}

    def load(self, state: dict[str, Any]) -> None:
        """Load a state, before `start`."""
        self.updates, self._average = state["updates"], state["average"]


def _trained(module: nn.Module) -> dict[str, Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
