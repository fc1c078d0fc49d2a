"""What the losses over a query's own documents share: masks, ordered pairs, ranks, gains, and means over queries.

Shapes: B queries, N documents of a query's own list.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from irexp.loss.loss import Loss
from irexp.types import UserError

#: The least finite score: a masked logit has the probability 0, and the gradient 0 instead of NaN.
LEAST = torch.finfo(torch.float32).min

#: The highest grade whose gain, summed over a list, is far from the end of float32.
HIGHEST_GRADE = 100


class ListLoss(Loss):
    """A loss of each query's own documents, averaged over the queries with documents of different targets."""

    in_batch = False

    @abstractmethod
    def of_queries(self, score_BN: Tensor, target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
        """loss_B: one loss per query.

        Args:
            score_BN: the model's scores in fp32; 0 where a document is absent.
            target_BN: the targets in fp32; at least two of a query differ; 0 where a document is absent.
            is_present_BN: which documents count.
        """

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """Mean over the queries that have an order to learn; 0 if there are none."""
        is_present_BN = ~target_BN.isnan()
        has_order_B = has_order(target_BN)
        if not bool(has_order_B.any()):
            return score_BN.float().masked_fill(~is_present_BN, 0.0).sum() * 0.0  # with a gradient, of zero
        is_present_BN = is_present_BN[has_order_B]
        score_BN = score_BN[has_order_B].float().masked_fill(~is_present_BN, 0.0)
        target_BN = target_BN[has_order_B].float().masked_fill(~is_present_BN, 0.0)
        return self.of_queries(score_BN, target_BN, is_present_BN).mean()

    def terms(self, target_BN: Tensor) -> Tensor:
        """The queries that have an order to learn."""
        return has_order(target_BN).sum()


def has_order(target_BN: Tensor) -> Tensor:
    """has_order_B: whether two documents of a query have different targets."""
    is_absent_BN = target_BN.isnan()
    highest_B = target_BN.masked_fill(is_absent_BN, -torch.inf).amax(dim=1)
    return highest_B > target_BN.masked_fill(is_absent_BN, torch.inf).amin(dim=1)


def masked(score_BN: Tensor, is_present_BN: Tensor) -> Tensor:
    """Logits in fp32 for a softmax over the documents that are present."""
    return score_BN.float().masked_fill(~is_present_BN, LEAST)


def is_ordered(target_BN: Tensor) -> Tensor:
    """is_ordered_BNN: whether the first target is above the second; false if either is NaN."""
    return target_BN[:, :, None] > target_BN[:, None, :]


def pairs(is_present_BN: Tensor) -> Tensor:
    """is_pair_BNN: whether both documents are present."""
    return is_present_BN[:, :, None] & is_present_BN[:, None, :]


def differences(score_BN: Tensor) -> Tensor:
    """difference_BNN: the first score minus the second."""
    return score_BN[:, :, None] - score_BN[:, None, :]


def approximate_rank(score_BN: Tensor, is_present_BN: Tensor, temperature: float) -> Tensor:
    """rank_BN = 1 + sum over other documents j of sigmoid((s_j - s_i) / T), which has a gradient."""
    above_BNN = torch.sigmoid(-differences(score_BN) / temperature)
    is_other_BNN = pairs(is_present_BN) & ~torch.eye(score_BN.shape[1], dtype=torch.bool, device=score_BN.device)
    return 1.0 + above_BNN.masked_fill(~is_other_BNN, 0.0).sum(dim=2)


def mean_rank(target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
    """rank_BN by the targets, from 1; equal targets share the mean of their ranks."""
    is_pair_BNN = pairs(is_present_BN)
    above_BN = ((target_BN[:, None, :] > target_BN[:, :, None]) & is_pair_BNN).sum(dim=2)
    equal_BN = ((target_BN[:, None, :] == target_BN[:, :, None]) & is_pair_BNN).sum(dim=2)
    return above_BN + (equal_BN + 1) / 2


def first_rank(target_BN: Tensor, is_present_BN: Tensor) -> Tensor:
    """rank_BN by the targets, from 1; equal targets share the first of their ranks."""
    return 1 + ((target_BN[:, None, :] > target_BN[:, :, None]) & pairs(is_present_BN)).sum(dim=2)


def position(score_BN: Tensor, is_present_BN: Tensor) -> Tensor:
    """position_BN in the ranking by the scores, from 1, each once; absent documents come last."""
    order_BN = score_BN.masked_fill(~is_present_BN, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order_BN.argsort(dim=1) + 1


def gains(target_BN: Tensor, is_present_BN: Tensor, max_grade: float | None) -> Tensor:
    """gain_BN = 2^grade - 1 over the query's ideal DCG, so that a perfect ranking has the DCG 1.

    Args:
        target_BN: grades, at least 0; a lower target counts as 0.
        is_present_BN: which documents count.
        max_grade: maps each query's targets linearly to 0 … max_grade; None takes them as grades.
    """
    grade_BN = target_BN
    if max_grade is not None:
        lowest_B1 = target_BN.masked_fill(~is_present_BN, torch.inf).amin(dim=1, keepdim=True)
        highest_B1 = target_BN.masked_fill(~is_present_BN, -torch.inf).amax(dim=1, keepdim=True)
        grade_BN = max_grade * (target_BN - lowest_B1) / (highest_B1 - lowest_B1)
    grade_BN = grade_BN.clamp(min=0.0).masked_fill(~is_present_BN, 0.0)
    shift_B1 = (grade_BN.amax(dim=1, keepdim=True) - HIGHEST_GRADE).clamp(min=0.0)  # a factor that cancels out below
    gain_BN = (2.0 ** (grade_BN - shift_B1) - 2.0**-shift_B1).masked_fill(~is_present_BN, 0.0)
    ideal_BN = gain_BN.sort(dim=1, descending=True).values / discount(torch.arange(1, gain_BN.shape[1] + 1).to(gain_BN))
    return gain_BN / ideal_BN.sum(dim=1, keepdim=True).clamp(min=1e-10)


def discount(rank: Tensor) -> Tensor:
    """log2(1 + rank), by which DCG divides a gain."""
    return torch.log2(1.0 + rank)


def check_max_grade(max_grade: float | None) -> float | None:
    """The largest grade, if it is above 0.

    Raises:
        UserError: if it is not.
    """
    if max_grade is not None and not max_grade > 0:
        raise UserError(f"loss.max_grade={max_grade}: it is the best document's grade and must be above 0")
    return max_grade
