"""InfoNCE (van den Oord, Li and Vinyals 2018, arXiv:1807.03748), with in-batch negatives as in DPR (arXiv:2004.04906).

    L = mean over queries of  -log( exp(s+ / T) / sum over documents d of exp(s_d / T) )

The sum is over the positive and the negatives; other documents known to be relevant are left out.

Shapes: B queries, N documents.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from irexp.loss.loss import Loss, check_negatives, check_temperature


class InfoNCE(Loss):
    """Cross-entropy of the positive among all documents, with a temperature."""

    def __init__(self, *, temperature: float = 0.05, in_batch: bool = True) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores: 0.05 for the cosine (SimCSE, arXiv:2104.08821), 1 for an unbounded inner
                product (DPR).
            in_batch: whether the documents of the other queries are negatives.
        """
        super().__init__()
        self.temperature, self.in_batch = check_temperature(temperature), in_batch

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries; the positive is the document with the largest target.

        Args:
            score_BN: the model's scores.
            target_BN: largest for the positive; NaN leaves a document out.

        Raises:
            UserError: if no query has a negative.
        """
        is_present_BN = check_negatives(target_BN)
        positive_B = target_BN.masked_fill(~is_present_BN, -torch.inf).argmax(dim=1)
        logit_BN = (score_BN.float() / self.temperature).masked_fill(~is_present_BN, -torch.inf)
        return cross_entropy(logit_BN, positive_B)
