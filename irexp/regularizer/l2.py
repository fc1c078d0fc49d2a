"""L2 penalty on the length of vectors.

R = mean over texts b of sqrt( sum over dimensions h of x_bh^2 )
"""

from __future__ import annotations

from torch import Tensor

from irexp.regularizer.regularizer import Mean, Regularizer


class L2(Regularizer):
    """Penalises long vectors; it has no effect on a cosine, whose vectors have the length 1."""

    def penalty(self, vector_BV: Tensor, mean: Mean) -> Tensor:
        """The mean over texts of a vector's length."""
        return mean(vector_BV.square().sum(dim=1).clamp(min=1e-12).sqrt())  # the root has no gradient at 0
