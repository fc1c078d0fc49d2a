"""Losses over a query's own documents: each against its naive formula, and with left-out documents or ties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from irexp.loss.kl_divergence import KLDivergence
from irexp.loss.lce import LCE
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.loss.rank_net import RankNet
from irexp.types import UserError

Rows = list[list[float]]

SCORES: Rows = [[2.0, 0.5, -1.0], [0.3, 0.7, 9.0]]
TARGETS: Rows = [[3.0, 1.0, 1.0], [0.9, 0.2, math.nan]]


def naive_lce(scores: Rows, targets: Rows) -> float:
    """-log softmax of the first document over the present ones."""
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        present = [s for s, t in zip(row, target, strict=True) if t == t]
        total += -row[0] + math.log(sum(math.exp(s) for s in present))
    return total / len(scores)


def naive_rank_net(scores: Rows, targets: Rows) -> float:
    """log(1 + exp(s_j - s_i)) over the pairs with t_i > t_j."""
    losses = [
        math.log(1 + math.exp(row[j] - row[i]))
        for row, target in zip(scores, targets, strict=True)
        for i in range(len(row))
        for j in range(len(row))
        if target[i] > target[j]
    ]
    return sum(losses) / len(losses)


def naive_margin_mse(scores: Rows, targets: Rows) -> float:
    """Squared error of the margins to the first document."""
    errors = [
        ((row[0] - row[j]) - (target[0] - target[j])) ** 2
        for row, target in zip(scores, targets, strict=True)
        for j in range(1, len(row))
        if target[j] == target[j]
    ]
    return sum(errors) / len(errors)


def naive_kl(scores: Rows, targets: Rows) -> float:
    """Sum of p log(p / q) over the present documents."""
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        present = [(s, t) for s, t in zip(row, target, strict=True) if t == t]
        p = [math.exp(t) / sum(math.exp(u) for _, u in present) for _, t in present]
        q = [math.exp(s) / sum(math.exp(u) for u, _ in present) for s, _ in present]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(scores)


NAIVE: list[tuple[Loss, Callable[[Rows, Rows], float]]] = [
    (LCE(), naive_lce),
    (RankNet(), naive_rank_net),
    (MarginMSE(), naive_margin_mse),
    (KLDivergence(), naive_kl),
]
IDS = [type(loss).__name__ for loss, _ in NAIVE]


def gradient_of(loss: Loss, scores: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the loss with respect to the scores."""
    scores = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(scores, targets), scores)
    return gradient


@pytest.mark.parametrize(("loss", "naive"), NAIVE, ids=IDS)
def test_the_loss_is_its_formula(loss: Loss, naive: Callable[[Rows, Rows], float]) -> None:
    """The loss equals the naive formula for two queries, one of which has a left-out document."""
    assert loss(torch.tensor(SCORES), torch.tensor(TARGETS)).item() == pytest.approx(naive(SCORES, TARGETS), rel=1e-5)


@pytest.mark.parametrize("loss", [loss for loss, _ in NAIVE], ids=IDS)
def test_a_left_out_document_has_no_gradient_and_does_not_change_the_loss(loss: Loss) -> None:
    """A document without a target is ignored whatever its score, and no gradient is NaN."""
    gradient = gradient_of(loss, torch.tensor(SCORES), torch.tensor(TARGETS))
    assert torch.isfinite(gradient).all()
    assert gradient[1, 2] == 0.0
    other = torch.tensor(SCORES)
    other[1, 2] = -1e4
    expected = loss(torch.tensor(SCORES), torch.tensor(TARGETS))
    torch.testing.assert_close(loss(other, torch.tensor(TARGETS)), expected)


@pytest.mark.parametrize("loss", [loss for loss, _ in NAIVE], ids=IDS)
def test_permuting_the_negatives_changes_nothing(loss: Loss) -> None:
    """The order of the negatives does not matter; the positive stays first."""
    order = [0, 2, 1]
    expected = loss(torch.tensor(SCORES), torch.tensor(TARGETS))
    torch.testing.assert_close(loss(torch.tensor(SCORES)[:, order], torch.tensor(TARGETS)[:, order]), expected)


def test_rank_net_is_zero_if_all_targets_are_equal() -> None:
    """Without ordered pairs the mean would be 0 / 0; loss and gradient are 0 instead of NaN."""
    targets = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert RankNet()(torch.tensor([[1.0, 5.0], [2.0, 0.0]]), targets).item() == 0.0
    assert gradient_of(RankNet(), torch.tensor([[1.0, 5.0], [2.0, 0.0]]), targets).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("loss", [loss for loss, _ in NAIVE], ids=IDS)
def test_a_batch_without_negatives_is_an_error(loss: Loss) -> None:
    """A loss over positives alone would train nothing without a message."""
    with pytest.raises(UserError, match="no query of the batch has a negative"):
        loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [1.0]]))


@pytest.mark.parametrize("make", [LCE, RankNet, KLDivergence])
def test_the_temperature_divides_the_scores_and_must_be_positive(make: Callable[..., Loss]) -> None:
    """Doubling scores and temperature changes nothing; a temperature of 0 is an error."""
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    doubled = targets * (2 if make is KLDivergence else 1)
    torch.testing.assert_close(make(temperature=2.0)(scores * 2, doubled), make()(scores, targets))
    with pytest.raises(UserError, match=r"loss\.temperature=0"):
        make(temperature=0)


def test_teacher_scores_are_compared_in_fp32() -> None:
    """Student scores in half precision do not lower the precision of the teacher's distribution."""
    targets = torch.tensor([[1000.0, 999.0]])
    loss = KLDivergence()(torch.tensor([[1.0, 0.0]]).half(), targets)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
