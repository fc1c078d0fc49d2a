"""L1 penalty on the weights of sparse vectors (SNRM, Zamani et al. 2018).

R = mean over texts b of sum over terms v of |x_bv|
"""

from __future__ import annotations

from torch import Tensor

from irexp.regularizer.regularizer import Mean, Regularizer


class L1(Regularizer):
    """Penalises all weights equally."""

    def penalty(self, vector_BV: Tensor, mean: Mean) -> Tensor:
        """The mean over texts of the sum of absolute weights."""
        return mean(vector_BV.abs().sum(dim=1))
