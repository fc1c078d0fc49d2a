"""FLOPS (Paria et al. 2020, arXiv:2004.05665): the expected operations of a search in an inverted index.

R = sum over terms v of ( mean over texts b of |x_bv| )^2
"""

from __future__ import annotations

from torch import Tensor

from irexp.regularizer.regularizer import Mean, Regularizer


class FLOPS(Regularizer):
    """Penalises terms that many texts share most, which balances the lengths of posting lists."""

    def penalty(self, vector_BV: Tensor, mean: Mean) -> Tensor:
        """The expected number of shared terms, weighted."""
        return mean(vector_BV.abs()).square().sum()
