"""ApproxMRR: one minus the reciprocal rank of the first relevant document, by the approximate ranks of ApproxNDCG.

    L = mean over queries of  1 - max over relevant documents i of 1 / r_i
    r_i = 1 + sum over other documents j of sigmoid((s_j - s_i) / T)

Relevant are the documents with the query's largest target: the positives, or a teacher's first. The ranks are those of
Qin, Liu and Li 2010 (Information Retrieval 13).

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import ListLoss, approximate_rank


class ApproxMRR(ListLoss):
    """One minus the reciprocal of an approximate rank."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """One minus the largest reciprocal of a relevant document's rank."""
        largest_B1 = target_BN.masked_fill(~is_present_BN, -torch.inf).amax(dim=1, keepdim=True)
        is_relevant_BN = is_present_BN & (target_BN == largest_B1)
        reciprocal_BN = 1.0 / approximate_rank(score_BN, is_present_BN, self.temperature)
        return 1.0 - reciprocal_BN.masked_fill(~is_relevant_BN, 0.0).amax(dim=1)
