"""LambdaLoss with the weights of NDCG-Loss2++ (Wang et al. 2018, CIKM), section 6.

    L = mean over queries of  sum over pairs with t_i > t_j of  w_ij log2(1 + exp(-(s_i - s_j) / T))
    w_ij = (rho_ij + mu delta_ij) |G_i - G_j|
    rho_ij = |1 / D(r_i) - 1 / D(r_j)|,  delta_ij = |1 / D(|r_i - r_j|) - 1 / D(|r_i - r_j| + 1)|
    D(r) = log2(1 + r),  G_i = (2^t_i - 1) / ideal DCG

r_i is the position in the ranking by the model's scores; the weights have no gradient.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import ListLoss, check_max_grade, differences, discount, gains, is_ordered, pairs, position


class LambdaLoss(ListLoss):
    """A logistic loss of pairs, each weighted by what swapping it would change in NDCG."""

    needs_grades = True

    def __init__(self, *, temperature: float = 1.0, mu: float = 10.0, max_grade: float | None = None) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences; the inverse of the paper's sigma.
            mu: the weight of delta.
            max_grade: maps each query's targets to 0 … max_grade, for a teacher's scores; None takes them as grades.
        """
        super().__init__()
        self.temperature, self.mu, self.max_grade = check_temperature(temperature), mu, check_max_grade(max_grade)

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """The weighted sum over a query's ordered pairs."""
        is_pair_BNN = is_ordered(target_BN) & pairs(is_present_BN)
        loss_BNN = softplus(-differences(score_BN) / self.temperature) / math.log(2)
        weight_BNN = self._weights(score_BN.detach(), target_BN, is_present_BN)
        return (weight_BNN * loss_BNN).masked_fill(~is_pair_BNN, 0.0).sum(dim=(1, 2))

    def _weights(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        rank_BN = position(score_BN, is_present_BN).float()
        rho_BNN = differences(1.0 / discount(rank_BN)).abs()
        distance_BNN = differences(rank_BN).abs().clamp(min=1.0)  # 0 for a document and itself, which is not a pair
        delta_BNN = (1.0 / discount(distance_BNN) - 1.0 / discount(distance_BNN + 1.0)).abs()
        gain_BNN = differences(gains(target_BN, is_present_BN, self.max_grade)).abs()
        return torch.as_tensor((rho_BNN + self.mu * delta_BNN) * gain_BNN)
