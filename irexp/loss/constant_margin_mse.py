"""MarginMSE (Hofstätter et al. 2020, arXiv:2010.02666) with a constant margin in the place of the teacher's.

    L = mean over pairs with t_i > t_j of  ((s_i - s_j) - margin)^2

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor

from irexp.loss.loss import Loss
from irexp.loss.ranking import differences, is_ordered


class ConstantMarginMSE(Loss):
    """Squared error between the score difference of every ordered pair and a margin."""

    in_batch = False

    def __init__(self, *, margin: float = 1.0) -> None:
        """A loss without weights.

        Args:
            margin: in the model's scores; for cosines, which differ by at most 2, a lower one.
        """
        super().__init__()
        self.margin = margin

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the ordered pairs of all queries; zero if there are none."""
        errors = differences(score_BN.float())[is_ordered(target_BN)] - self.margin
        return errors.square().sum() / max(1, len(errors))

    def terms(self, target_BN: Tensor) -> Tensor:
        """The ordered pairs of all queries."""
        return is_ordered(target_BN).sum()
