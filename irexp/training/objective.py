"""The losses of a batch from its scores: each part of a weighted sum takes the documents that it compares.

Shapes: B queries, N documents of the whole batch or of a query's own list, V vectors of a document.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irexp.loss.loss import Loss
from irexp.training.lists import Lists


@dataclass
class Scored:
    """The scores of a batch with their targets.

    Attributes:
        scores: of each query with its own documents; one tensor for each number of dimensions that is trained.
        lists: the targets of these documents, and their columns among those of the whole batch.
        all_scores: of each query with all documents of the batch; empty without in-batch negatives.
        all_target_BN: their targets, 1 for the positive and 0 for the others; None without in-batch negatives.
        viewers: scores and targets of each query with each vector of its positive; None unless a loss compares them.
    """

    scores: list[Tensor]
    lists: Lists
    all_scores: list[Tensor]
    all_target_BN: Tensor | None
    viewers: tuple[Tensor, Tensor] | None = None

    def of(self, loss: Loss) -> tuple[list[Tensor], Tensor]:
        """The scores and targets that a loss compares."""
        if loss.compares_viewers:
            assert self.viewers is not None
            return [self.viewers[0]], self.viewers[1]
        if not loss.in_batch:
            return self.scores, self.lists.without_relevant() if loss.leaves_out_relevant else self.lists.target_BN
        assert self.all_target_BN is not None
        return self.all_scores, self._with_scores() if loss.takes_scores_in_batch else self.all_target_BN

    def _with_scores(self) -> Tensor:
        """The targets of all documents: a teacher's score for a query's own, minus infinity for those of others."""
        assert self.all_target_BN is not None
        target_BN = self.all_target_BN.masked_fill(~self.all_target_BN.isnan(), -torch.inf)
        row_P, place_P = (~self.lists.target_BN.isnan()).nonzero(as_tuple=True)
        target_BN[row_P, self.lists.column_BN[row_P, place_P]] = self.lists.target_BN[row_P, place_P]
        return target_BN
