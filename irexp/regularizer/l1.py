"""L1, as a penalty on the weights of sparse vectors (SNRM, Zamani et al. 2018).

R = mean over texts b of sum over terms v of |x_bv|
"""

from __future__ import annotations

from torch import Tensor

from irexp.regularizer.regularizer import Mean, Regularizer


class L1(Regularizer):
    """It presses down every weight alike."""

    def penalty(self, vector_BV: Tensor, mean: Mean) -> Tensor:
        """The mean sum of weights."""
        return mean(vector_BV.abs().sum(dim=1))
