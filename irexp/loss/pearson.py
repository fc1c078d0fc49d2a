"""One minus Pearson's correlation of the student's and the teacher's scores, a loss that no scale or offset changes.

    L = mean over queries of  1 - sum over documents d of (s_d - mean s)(t_d - mean t) / (|s - mean s| |t - mean t|)

Pearson 1895, Proceedings of the Royal Society of London 58.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor

from irexp.loss.ranking import ListLoss


class PearsonCorrelation(ListLoss):
    """How far a query's scores are from a rising line of the teacher's."""

    def __init__(self) -> None:
        """A loss without weights and without settings."""
        super().__init__()

    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """One minus the correlation; 1 if all scores of the student are equal."""
        student_BN, teacher_BN = _centred(score_BN, is_present_BN), _centred(target_BN, is_present_BN)
        return 1.0 - (_unit(student_BN) * _unit(teacher_BN)).sum(dim=1)


def _centred(value_BN: Tensor, is_present_BN: Tensor) -> Tensor:
    mean_B1 = value_BN.sum(dim=1, keepdim=True) / is_present_BN.sum(dim=1, keepdim=True)
    return (value_BN - mean_B1).masked_fill(~is_present_BN, 0.0)


def _unit(value_BN: Tensor) -> Tensor:
    """The vector divided by its length; the square is clamped, since the root has no gradient at 0."""
    return value_BN / value_BN.square().sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
