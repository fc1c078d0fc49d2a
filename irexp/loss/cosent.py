"""CoSENT (Su 2022, https://kexue.fm/archives/8847): one logistic loss of all ordered pairs of a query.

    L = mean over queries of  log(1 + sum over pairs with t_i > t_j of exp((s_j - s_i) / T))

The original sums over the pairs of a whole batch of sentence pairs; here a pair is two documents of one query, since
scores of different queries are not ranked against each other.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import LEAST, ListLoss, differences, is_ordered, pairs


class CoSENT(ListLoss):
    """A smooth maximum over the wrongly ordered pairs; it learns a teacher's order, not its scale."""

    def __init__(self, *, temperature: float = 0.05) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences: 0.05 for the cosine, 1 for an unbounded inner product.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """The logarithm of one plus the sum over a query's ordered pairs."""
        is_pair_BNN = is_ordered(target_BN) & pairs(is_present_BN)
        logit_BNN = (-differences(score_BN) / self.temperature).masked_fill(~is_pair_BNN, LEAST)
        return softplus(torch.logsumexp(logit_BNN.flatten(1), dim=1))
