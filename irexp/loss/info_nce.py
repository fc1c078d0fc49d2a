"""InfoNCE (van den Oord, Li and Vinyals 2018, arXiv:1807.03748), with in-batch negatives as in DPR (arXiv:2004.04906).

    L = mean over queries of  -log( exp(s+ / T) / (exp(s+ / T) + sum over negatives d of exp(s_d / T)) )

The positive is the document with the largest target. Documents that share it are positives, too: a query's loss is the
mean over them, and none is a negative of another; with in-batch negatives one of them is the positive, and the others
are left out. Documents known to be relevant are never negatives: those with a lower target, such as a lower grade, are
left out, unless `min_target_diff` says which targets are low enough.

Shapes: B queries, N documents, P pairs of a query and a positive.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from irexp.loss.loss import Loss, check_temperature
from irexp.types import UserError


class InfoNCE(Loss):
    """Cross-entropy of the positive among all documents, with a temperature."""

    in_batch = True  # unless the setting says otherwise; a plan reads it without importing torch

    def __init__(
        self, *, temperature: float = 0.05, in_batch: bool = True, min_target_diff: float | None = None
    ) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores: 0.05 for the cosine (SimCSE, arXiv:2104.08821), 1 for an unbounded inner
                product (DPR).
            in_batch: whether the documents of the other queries are negatives.
            min_target_diff: how far below the largest target a document's must be to count as a negative, whether it is
                known to be relevant or not; nearer documents are left out. None: all with a lower target count, except
                those known to be relevant.

        Raises:
            UserError: if the temperature or the difference is not above 0, or in-batch negatives are to have targets.
        """
        super().__init__()
        if min_target_diff is not None and not min_target_diff > 0:
            raise UserError(f"loss.min_target_diff={min_target_diff}: it tells negatives apart and must be above 0")
        if min_target_diff is not None and in_batch:
            raise UserError(
                f"loss.min_target_diff={min_target_diff} compares the targets of a query's own documents, and in-batch "
                f"negatives have none; set loss.in_batch=false, or loss=score_based_in_batch"
            )
        self.temperature, self.in_batch = check_temperature(temperature), in_batch
        self.min_target_diff, self.leaves_out_relevant = min_target_diff, min_target_diff is None

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries; the positives are the documents with the largest target.

        Args:
            score_BN: the model's scores.
            target_BN: largest for the positives; NaN leaves a document out.
        """
        is_present_BN = ~target_BN.isnan()
        best_B1 = target_BN.masked_fill(~is_present_BN, -torch.inf).amax(dim=1, keepdim=True)
        is_positive_BN = is_present_BN & (target_BN == best_B1)
        difference = self.min_target_diff
        is_negative_BN = target_BN < best_B1 if difference is None else target_BN <= best_B1 - difference
        # in place, and below in bytes: of a batch of 8,192 queries each further copy takes hundreds of megabytes
        logit_BN = (score_BN.float() / self.temperature).masked_fill_(~(is_positive_BN | is_negative_BN), -torch.inf)
        count_B = is_positive_BN.sum(dim=1)
        if int(count_B.max()) == 1:
            return cross_entropy(logit_BN, is_positive_BN.byte().argmax(dim=1))
        row_P, place_P = is_positive_BN.nonzero(as_tuple=True)
        is_other_PN = is_positive_BN[row_P].scatter(1, place_P[:, None], False)
        loss_P = cross_entropy(logit_BN[row_P].masked_fill(is_other_PN, -torch.inf), place_P, reduction="none")
        return (loss_P / count_B[row_P]).sum() / len(score_BN)
