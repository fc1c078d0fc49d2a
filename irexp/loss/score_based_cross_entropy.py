"""In-batch cross-entropy in which a teacher's scores choose the positive and the query's own negatives.

    L = mean over queries of  -log( exp(s+ / T) / (exp(s+ / T) + sum over negatives d of exp(s_d / T)) )

The positive is the query's document with the highest score. Negatives are its documents at least `min_target_diff`
below that, and the documents of all other queries, whose target is minus infinity. The loss is InfoNCE
(arXiv:1807.03748) with the choice of negatives of Lightning IR (arXiv:2411.04677).

Shapes: B queries, N documents of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from irexp.loss.loss import Loss, check_temperature
from irexp.types import UserError


class ScoreBasedInBatchCrossEntropy(Loss):
    """InfoNCE that leaves out the documents which a teacher scores almost as high as the positive."""

    in_batch = True
    needs_scores = True
    takes_scores_in_batch = True

    def __init__(self, *, min_target_diff: float, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            min_target_diff: how far below the best a document's target must be to count as a negative, above 0.
            temperature: divides the scores: 0.05 for the cosine, 1 for an unbounded inner product.
        """
        super().__init__()
        if not min_target_diff > 0:
            raise UserError(
                f"loss.min_target_diff={min_target_diff}: it tells negatives from the positive and must be above 0"
            )
        self.min_target_diff, self.temperature = min_target_diff, check_temperature(temperature)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries.

        Args:
            score_BN: the student's scores.
            target_BN: the teacher's scores of a query's own documents, minus infinity for those of other queries.
        """
        present_BN = target_BN.masked_fill(target_BN.isnan(), -torch.inf)
        best_B1, positive_B1 = present_BN.max(dim=1, keepdim=True)
        is_negative_BN = ~target_BN.isnan() & (present_BN <= best_B1 - self.min_target_diff)
        is_counted_BN = is_negative_BN.scatter(1, positive_B1, True)
        logit_BN = (score_BN.float() / self.temperature).masked_fill(~is_counted_BN, -torch.inf)
        return cross_entropy(logit_BN, positive_B1.squeeze(1))
