"""ADR-MSE, approximate discounted rank MSE (Schlatt et al. 2024, arXiv:2405.07920, Rank-DistiLLM).

    L = mean over queries of  1 / n  sum over documents i of  (r_i - rank_i)^2 / log2(1 + rank_i)
    r_i = 1 + sum over other documents j of sigmoid((s_j - s_i) / T)

rank_i is the rank by the targets, n the number of documents; equal targets share the mean of their ranks.
"""

from __future__ import annotations

from irexp.loss.approx_rank_mse import ApproxRankMSE


class ADRMSE(ApproxRankMSE):
    """ApproxRankMSE in which errors at the first ranks weigh most."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the score differences.
        """
        super().__init__(temperature=temperature, discount="log2")
