"""ApproxNDCG (Qin, Liu and Li 2010, Information Retrieval 13; revisited by Bruch et al. 2019, SIGIR).

    L = mean over queries of  1 - sum over documents i of  G_i / log2(1 + r_i)
    r_i = 1 + sum over other documents j of sigmoid((s_j - s_i) / T),  G_i = (2^t_i - 1) / ideal DCG

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor

from irexp.loss.loss import check_temperature
from irexp.loss.ranking import ListLoss, approximate_rank, check_max_grade, discount, gains


class ApproxNDCG(ListLoss):
    """One minus NDCG by approximate ranks."""

    needs_grades = True

    def __init__(self, *, temperature: float = 1.0, max_grade: float | None = None) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences: a lower one is closer to NDCG and has a steeper gradient.
            max_grade: maps each query's targets to 0 … max_grade, for a teacher's scores; None takes them as grades.
        """
        super().__init__()
        self.temperature, self.max_grade = check_temperature(temperature), check_max_grade(max_grade)

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """One minus the query's approximate NDCG."""
        rank_BN = approximate_rank(score_BN, is_present_BN, self.temperature)
        gain_BN = gains(target_BN, is_present_BN, self.max_grade)
        return 1.0 - (gain_BN / discount(rank_BN)).sum(dim=1)
