"""RankNet (Burges et al. 2005, ICML): a pairwise logistic loss.

    L = mean over pairs with t_i > t_j of  log(1 + exp(-(s_i - s_j) / T))

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from irexp.loss.loss import Loss, check_temperature
from irexp.loss.ranking import differences, is_ordered


class RankNet(Loss):
    """Logistic loss of the score difference of every ordered pair; it learns a teacher's order, not its scale."""

    in_batch = False

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the ordered pairs of all queries; zero if there are none.

        Args:
            score_BN: the model's scores.
            target_BN: relevance, a teacher's score, or minus its rank.
        """
        is_ordered_BNN = is_ordered(target_BN)
        losses = softplus(-differences(score_BN.float())[is_ordered_BNN] / self.temperature)
        return losses.sum() / max(1, len(losses))

    def terms(self, target_BN: Tensor) -> Tensor:
        """The ordered pairs of all queries."""
        return is_ordered(target_BN).sum()
