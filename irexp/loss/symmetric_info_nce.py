"""Symmetric InfoNCE (CLIP, arXiv:2103.00020): each query among documents, and each positive among queries.

    L = mean over queries i of  1/2 ( -log( exp(s_ii / T) / sum over documents d of exp(s_id / T) )
                                      -log( exp(s_ii / T) / sum over queries j of exp(s_ji / T) ) )

s_ij is the score of query i with the positive of query j. A query to which a document is known to be relevant is left
out of that document's sum.

Shapes: B queries of all processes, N documents of all processes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from irexp.loss.info_nce import InfoNCE


class SymmetricInfoNCE(InfoNCE):
    """The mean of InfoNCE over documents and InfoNCE over queries."""

    compares_queries = True

    def __init__(self, *, temperature: float = 0.05) -> None:
        """A loss without weights; the other queries' documents are always negatives.

        Args:
            temperature: divides the scores: 0.05 for the cosine, 1 for an unbounded inner product.
        """
        super().__init__(temperature=temperature, in_batch=True)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries of the whole batch; the positive is the document with the largest target."""
        over_documents = super().forward(score_BN, target_BN)
        target_BN = target_BN.masked_fill(target_BN.isnan(), torch.inf)
        positive_B = target_BN.masked_fill(target_BN.isposinf(), -torch.inf).argmax(dim=1)
        score_BB = (score_BN.float() / self.temperature)[:, positive_B].T  # rows are documents
        target_BB = target_BN[:, positive_B].T
        is_own_BB = torch.eye(len(score_BB), dtype=torch.bool, device=score_BB.device)
        is_relevant_BB = target_BB >= target_BB.diagonal()[:, None]  # known to be, or the other query's positive, too
        logit_BB = score_BB.masked_fill(is_relevant_BB & ~is_own_BB, -torch.inf)
        over_queries = cross_entropy(logit_BB, torch.arange(len(score_BB), device=score_BB.device))
        return (over_documents + over_queries) / 2
