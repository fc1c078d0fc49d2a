"""ListNet (Cao et al. 2007, ICML): the cross-entropy of top-one probabilities, section 4.3.

    L = mean over queries of  - sum over documents d of p_d log q_d
    p = softmax(t / T), q = softmax(a s / T)

It is the KL divergence plus the entropy of the targets: the same gradient, another value.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax

from irexp.loss.loss import Loss, check_temperature
from irexp.loss.ranking import masked
from irexp.loss.scale import Scale


class ListNet(Loss):
    """Cross-entropy of the student's distribution over a query's documents to that of the targets."""

    in_batch = False

    def __init__(
        self, *, temperature: float = 1.0, scale: float | None = None, learn_scale: bool | None = None
    ) -> None:
        """A loss without weights, unless the scale is learned.

        Args:
            temperature: divides the scores of student and targets.
            scale: multiplies the student's scores; None for 1.
            learn_scale: whether the scale is trained, beginning at `scale`.
        """
        super().__init__()
        self.temperature, self.scale = check_temperature(temperature), Scale(scale, learn_scale)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries.

        Args:
            score_BN: the student's scores.
            target_BN: a teacher's scores, or relevance.
        """
        is_present_BN = ~target_BN.isnan()
        target_BN = masked(target_BN.float() / self.temperature, is_present_BN)
        student_BN = masked(self.scale(score_BN) / self.temperature, is_present_BN)
        product_BN = target_BN.softmax(dim=1) * log_softmax(student_BN, dim=1).masked_fill(~is_present_BN, 0.0)
        return -product_BN.sum() / len(score_BN)
