"""The contrastive local loss of MVR (Zhang et al. 2022, arXiv:2203.08372), which keeps a document's viewers apart.

    L = mean over queries of  -log( exp(max over viewers k of s_k / T) / sum over viewers k of exp(s_k / T) )

s_k is the score of the query with viewer k of its positive document. In the paper it is added with weight 0.01 to
InfoNCE, and T falls from 1 to 0.3: loss=[info_nce_dot,contrastive_local] loss.weights.contrastive_local=0.01.

Shapes: B queries, N viewers of a query's positive document.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from irexp.loss.loss import Loss, check_temperature


class ContrastiveLocal(Loss):
    """Cross-entropy of a document's best viewer among all of its viewers."""

    in_batch = False
    compares_viewers = True

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries.

        Args:
            score_BN: of a query with each viewer of its positive document.
            target_BN: NaN leaves a viewer out; other values are not used.
        """
        logit_BN = (score_BN.float() / self.temperature).masked_fill(target_BN.isnan(), -torch.inf)
        return cross_entropy(logit_BN, logit_BN.argmax(dim=1))
