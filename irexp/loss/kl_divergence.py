"""Distillation by the Kullback-Leibler divergence of score distributions, as in ColBERTv2 (arXiv:2112.01488).

    L = mean over queries of  sum over documents d of p_d (log p_d - log q_d)
    p = softmax(t / T), q = softmax(s / T)

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from irexp.loss.loss import Loss, check_negatives, check_temperature


class KLDivergence(Loss):
    """How far the student's distribution over a query's documents is from the teacher's."""

    in_batch = False
    needs_scores = True

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores of both student and teacher.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries; both softmaxes are taken in fp32.

        Args:
            score_BN: the student's scores.
            target_BN: the teacher's scores of the same documents.
        """
        is_present_BN = check_negatives(target_BN)
        teacher_BN = log_softmax(self._masked(target_BN, is_present_BN), dim=1)
        student_BN = log_softmax(self._masked(score_BN, is_present_BN), dim=1)
        divergence_BN = teacher_BN.exp() * (teacher_BN - student_BN).masked_fill(~is_present_BN, 0.0)
        return divergence_BN.sum() / len(score_BN)

    def _masked(self, score_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """Logits in fp32; finite where masked, so that the gradient there is zero and not NaN."""
        return (score_BN.float() / self.temperature).masked_fill(~is_present_BN, torch.finfo(torch.float32).min)
