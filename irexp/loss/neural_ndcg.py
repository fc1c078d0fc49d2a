"""NeuralNDCG (Pobrotyn and Białobrzeski 2021, arXiv:2102.07831): NDCG after a differentiable sort of the gains.

    L = mean over queries of  1 - sum over ranks r of  (P G)_r / log2(1 + r)
    P = Sinkhorn(rows r: softmax over documents j of ((n + 1 - 2 r) s_j - sum over k of |s_j - s_k|) / T)
    G_i = (2^t_i - 1) / ideal DCG

P is NeuralSort (Grover et al. 2019, arXiv:1903.08850), whose rows and columns are divided by their sums in turn until
both are 1. n is the number of documents.

Shapes: B queries, N documents of a query's own list, also N ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import LEAST, ListLoss, check_max_grade, discount, gains, pairs

#: The largest difference of a column's sum from 1 at which a matrix counts as doubly stochastic.
_TOLERANCE = 1e-5

#: The largest number of times that columns and rows are divided by their sums.
_ITERATIONS = 50


class NeuralNDCG(ListLoss):
    """One minus the NDCG of gains that are sorted by the model's scores, with a gradient."""

    needs_grades = True

    def __init__(self, *, temperature: float = 1.0, max_grade: float | None = None) -> None:
        """A loss without weights.

        Args:
            temperature: a lower one sorts more exactly and has a gradient of larger variance.
            max_grade: maps each query's targets to 0 … max_grade, for a teacher's scores; None takes them as grades.
        """
        super().__init__()
        self.temperature, self.max_grade = check_temperature(temperature), check_max_grade(max_grade)

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """One minus the query's NDCG."""
        gain_BN = gains(target_BN, is_present_BN, self.max_grade)
        sorted_BN = (_sort(score_BN, is_present_BN, self.temperature) @ gain_BN[:, :, None]).squeeze(2)
        rank_N = torch.arange(1, score_BN.shape[1] + 1, device=score_BN.device)
        return 1.0 - (sorted_BN / discount(rank_N)).sum(dim=1)


def _sort(score_BN: Tensor, is_present_BN: Tensor, temperature: float) -> Tensor:
    """share_BNN: the share of each document in each rank; rows are ranks, and those beyond the documents are 0."""
    is_pair_BNN = pairs(is_present_BN)
    distance_BN = (score_BN[:, :, None] - score_BN[:, None, :]).abs().masked_fill(~is_pair_BNN, 0.0).sum(dim=2)
    count_B1 = is_present_BN.sum(dim=1, keepdim=True)
    rank_N = torch.arange(1, score_BN.shape[1] + 1, device=score_BN.device)
    factor_BN = count_B1 + 1 - 2 * rank_N
    logit_BNN = (factor_BN[:, :, None] * score_BN[:, None, :] - distance_BN[:, None, :]) / temperature
    share_BNN = logit_BNN.masked_fill(~is_present_BN[:, None, :], LEAST).softmax(dim=2)
    is_rank_BN = rank_N <= count_B1
    share_BNN = share_BNN * (is_rank_BN[:, :, None] & is_present_BN[:, None, :])
    return _balance(share_BNN, is_rank_BN, is_present_BN)


def _balance(share_BNN: Tensor, is_rank_BN: Tensor, is_present_BN: Tensor) -> Tensor:
    """Sinkhorn's scaling; each query stops by itself, so that the others of its batch do not change its loss."""
    for _ in range(_ITERATIONS):
        error_BN = (share_BNN.detach().sum(dim=1) - 1.0).abs().masked_fill(~is_present_BN, 0.0)
        is_done_B = error_BN.amax(dim=1) < _TOLERANCE
        if bool(is_done_B.all()):
            break
        column_BN = share_BNN.sum(dim=1).clamp(min=1e-10).masked_fill(~is_present_BN, 1.0)
        scaled_BNN = share_BNN / column_BN[:, None, :]
        row_BN = scaled_BNN.sum(dim=2).clamp(min=1e-10).masked_fill(~is_rank_BN, 1.0)
        scaled_BNN = scaled_BNN / row_BN[:, :, None]
        share_BNN = torch.where(is_done_B[:, None, None], share_BNN, scaled_BNN)
    return share_BNN
