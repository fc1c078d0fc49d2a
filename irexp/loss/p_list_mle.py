"""p-ListMLE (Lan et al. 2014, UAI): ListMLE in which the first positions weigh most.

    L = mean over queries of  sum over documents i of
            w_i ( log( sum over k with t_k <= t_i of exp(s_k / T) ) - s_i / T )
    w_i = (2^(n - r_i) - 1) / sum over j of (2^(n - r_j) - 1)

r_i is the document's rank by the targets, where equal ones share the first, and n the number of documents. The paper's
weights are not divided by their sum, which makes the loss grow with 2^n.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor

from irexp.loss.list_mle import ListMLE
from irexp.loss.ranking import first_rank


class PListMLE(ListMLE):
    """The negative log-likelihood of the order, weighted by position."""

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """The weighted mean over a query's documents."""
        loss_BN, is_counted_BN = self.choices(score_BN, target_BN, is_present_BN)
        rank_BN, count_B1 = first_rank(target_BN, is_present_BN), is_present_BN.sum(dim=1, keepdim=True)
        weight_BN = 2.0**-rank_BN - 2.0**-count_B1  # both divided by 2^n, which fp32 cannot hold for long lists
        weight_BN = weight_BN.masked_fill(~is_counted_BN, 0.0)
        return (weight_BN * loss_BN.masked_fill(~is_counted_BN, 0.0)).sum(dim=1) / weight_BN.sum(dim=1)
