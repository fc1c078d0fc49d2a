"""A linear layer on top of an encoder's vectors: sentence-transformers' Dense.

Shapes: B vectors, H dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

#: The activations of a projection, named as in torch.nn.
Activation = Literal["Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid"]


class Projection(nn.Module):
    """A linear layer followed by an activation."""

    def __init__(self, in_dim: int, out_dim: int, *, bias: bool = True, activation: Activation = "Identity") -> None:
        """Weights drawn by torch's global generator."""
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim, bias=bias)
        self.activation = activation
        self.activate: nn.Module = getattr(nn, activation)()

    def forward(self, vector_BH: Tensor) -> Tensor:
        """The projected vectors."""
        return self.activate(self.linear(vector_BH))  # type: ignore[no-any-return]
