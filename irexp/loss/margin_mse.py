"""MarginMSE (Hofstätter et al. 2020, arXiv:2010.02666): distillation of a teacher's score margins.

    L = mean over pairs of (a (s+ - s-) - (t+ - t-))^2

Shapes: B queries, N documents of a query's own list, the positive first.
"""

from __future__ import annotations

from torch import Tensor

from irexp.loss.loss import Loss
from irexp.loss.scale import Scale


class MarginMSE(Loss):
    """Squared error between the student's and the teacher's score margins."""

    in_batch = False
    needs_scores = True

    def __init__(self, *, scale: float | None = None, learn_scale: bool | None = None) -> None:
        """A loss without weights, unless the scale is learned.

        Args:
            scale: multiplies the student's scores; None for 1.
            learn_scale: whether the scale is trained, beginning at `scale`.
        """
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the negatives of all queries; zero if there are none.

        Args:
            score_BN: the student's scores; column 0 is the positive.
            target_BN: the teacher's scores of the same documents; the student learns their scale, less the factor a.
        """
        is_negative_BN = ~target_BN[:, 1:].isnan()
        score_BN = self.scale(score_BN)
        student_BN = score_BN[:, :1] - score_BN[:, 1:]
        teacher_BN = target_BN[:, :1] - target_BN[:, 1:]
        errors = student_BN[is_negative_BN] - teacher_BN[is_negative_BN]
        return errors.square().sum() / max(1, len(errors))

    def terms(self, target_BN: Tensor) -> Tensor:
        """The negatives of all queries."""
        return (~target_BN[:, 1:].isnan()).sum()
