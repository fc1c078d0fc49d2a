"""Several losses at once: L = sum over losses l of w_l L_l, as SPLADE-v3 adds KL divergence and MarginMSE."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from irexp.loss.loss import Loss, Part
from irexp.types import UserError


class WeightedSum(Loss):
    """A weighted sum, of which each part is logged by its name."""

    def __init__(self, losses: Mapping[str, Loss], *, weights: Mapping[str, float] | None = None) -> None:
        """Combine losses; in training each is handed its own documents: of the batch, or of each query's list.

        Args:
            losses: by name.
            weights: by name; a loss without a weight has 1.

        Raises:
            UserError: if a weight is negative or names a loss that is not in the sum, or the sum has none.
        """
        super().__init__()
        weights = weights or {}
        if not losses:
            raise UserError("loss: a sum needs at least one loss, such as loss=[kl_divergence,margin_mse]")
        for name, weight in weights.items():
            if name not in losses:
                raise UserError(f"loss.weights.{name}: there is no such loss in the sum; there are {', '.join(losses)}")
            if not weight >= 0:
                raise UserError(f"loss.weights.{name}={weight}: it must be at least 0")
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = {name: float(weights.get(name, 1.0)) for name in losses}
        self.in_batch = any(loss.in_batch for loss in losses.values())

    def parts(self) -> list[Part]:
        """The losses with their weights."""
        found = []
        for name, loss in self.losses.items():
            assert isinstance(loss, Loss)
            found.append(Part(name, self.weights[name], loss))
        return found

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """The sum of losses that take the same documents."""
        total = score_BN.new_zeros(())
        for part in self.parts():
            total = total + part.weight * part.loss(score_BN, target_BN)
        return total
