"""ListMLE (Xia et al. 2008, ICML): the likelihood of the targets' order under the Plackett-Luce model.

    L = mean over queries of  sum over documents i of  log( sum over k with t_k <= t_i of exp(s_k / T) ) - s_i / T

The sum over i leaves out the documents with the lowest target: below them nothing is ordered. Without equal targets
this is the paper's loss; equal ones count as if each were drawn before the others (Breslow's approximation), so that
the order of documents does not matter. Queries without an order are left out.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import LEAST, ListLoss, is_ordered, pairs


class ListMLE(ListLoss):
    """The negative log-likelihood of the order; it learns a teacher's order, not its scale."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """The sum over a query's documents."""
        loss_BN, is_counted_BN = self.choices(score_BN, target_BN, is_present_BN)
        return loss_BN.masked_fill(~is_counted_BN, 0.0).sum(dim=1)

    def choices(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> tuple[Tensor, Tensor]:
        """loss_BN of drawing each document before those below it, and whether there are any below it."""
        score_BN, is_pair_BNN = score_BN / self.temperature, pairs(is_present_BN)
        is_left_BNN = (target_BN[:, None, :] <= target_BN[:, :, None]) & is_pair_BNN
        total_BN = torch.logsumexp(score_BN[:, None, :].masked_fill(~is_left_BNN, LEAST), dim=2)
        return total_BN - score_BN, (is_ordered(target_BN) & is_pair_BNN).any(dim=2)
