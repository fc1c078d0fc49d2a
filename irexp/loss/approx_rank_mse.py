"""ApproxRankMSE: the squared error of approximate ranks (of Qin, Liu and Li 2010, Information Retrieval 13).

    L = mean over queries of  1 / n  sum over documents i of  w_i (r_i - rank_i)^2
    r_i = 1 + sum over other documents j of sigmoid((s_j - s_i) / T)
    w_i = 1,  or 1 / log2(1 + rank_i),  or 1 / rank_i

rank_i is the rank by the targets, n the number of documents; equal targets share the mean of their ranks.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import ListLoss, approximate_rank, discount, mean_rank


class ApproxRankMSE(ListLoss):
    """Squared error between the student's approximate ranks and the teacher's ranks."""

    def __init__(self, *, temperature: float = 1.0, discount: Literal["log2", "reciprocal"] | None = None) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences.
            discount: how errors at lower ranks lose weight; None for equal weights.
        """
        super().__init__()
        self.temperature, self.discount = check_temperature(temperature), discount

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """The weighted mean over a query's documents."""
        rank_BN = mean_rank(target_BN, is_present_BN)
        error_BN = (approximate_rank(score_BN, is_present_BN, self.temperature) - rank_BN).square()
        error_BN = (error_BN * self._weights(rank_BN)).masked_fill(~is_present_BN, 0.0)
        return error_BN.sum(dim=1) / is_present_BN.sum(dim=1)

    def _weights(self, rank_BN: Tensor) -> Tensor:
        if self.discount is None:
            return torch.ones_like(rank_BN)
        return 1.0 / (discount(rank_BN) if self.discount == "log2" else rank_BN.clamp(min=1.0))
