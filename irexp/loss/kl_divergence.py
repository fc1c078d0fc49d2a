"""Distillation by the Kullback-Leibler divergence of score distributions, as in ColBERTv2 (arXiv:2112.01488).

    L = mean over queries of  sum over documents d of p_d (log p_d - log q_d)
    p = softmax(t / T), q = softmax(a s / T)

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax

from irexp.loss.loss import Loss, check_temperature
from irexp.loss.ranking import masked
from irexp.loss.scale import Scale


class KLDivergence(Loss):
    """How far the student's distribution over a query's documents is from the teacher's."""

    in_batch = False
    needs_scores = True

    def __init__(
        self, *, temperature: float = 1.0, scale: float | None = None, learn_scale: bool | None = None
    ) -> None:
        """A loss without weights, unless the scale is learned.

        Args:
            temperature: divides the scores of both student and teacher.
            scale: multiplies the student's scores; None for 1.
            learn_scale: whether the scale is trained, beginning at `scale`.
        """
        super().__init__()
        self.temperature, self.scale = check_temperature(temperature), Scale(scale, learn_scale)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries; both softmaxes are taken in fp32.

        Args:
            score_BN: the student's scores.
            target_BN: the teacher's scores of the same documents.
        """
        is_present_BN = ~target_BN.isnan()
        teacher_BN = log_softmax(masked(target_BN.float() / self.temperature, is_present_BN), dim=1)
        student_BN = log_softmax(masked(self.scale(score_BN) / self.temperature, is_present_BN), dim=1)
        divergence_BN = teacher_BN.exp() * (teacher_BN - student_BN).masked_fill(~is_present_BN, 0.0)
        return divergence_BN.sum() / len(score_BN)
