"""InfoNCE against its formula in loops."""

from __future__ import annotations

import math

import pytest
import torch

from irexp.loss.info_nce import InfoNCE
from irexp.loss.lce import LCE
from irexp.types import UserError


def naive(
    scores: list[list[float]], targets: list[list[float]], temperature: float, min_target_diff: float | None = None
) -> float:
    """The formula of the module's docstring, in loops."""
    losses = []
    for row, target in zip(scores, targets, strict=True):
        kept = [(t, math.exp(s / temperature)) for s, t in zip(row, target, strict=True) if not math.isnan(t)]
        best = max(t for t, _ in kept)
        low = [value for t, value in kept if (t < best if min_target_diff is None else t <= best - min_target_diff)]
        each = [-math.log(value / (value + sum(low))) for t, value in kept if t == best]
        losses.append(sum(each) / len(each))
    return sum(losses) / len(losses)


NAN = math.nan
SCORES = [[0.9, 0.1, -0.3], [0.2, 0.4, 0.8]]


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize(
    "targets",
    [
        [[1, 0, 0], [0, 1, 0]],
        [[1, NAN, 0], [NAN, 1, 0]],
        [[0.2, 0.1, 0.3], [3, 2, 1]],
        [[2, 2, 0], [1, 0, 0]],
        [[2, 2, 2], [2, NAN, 2]],
    ],
)
def test_it_is_the_formula(targets: list[list[float]], temperature: float) -> None:
    """The loss equals the naive formula for two queries and three documents, with and without left-out documents."""
    found = InfoNCE(temperature=temperature)(torch.tensor(SCORES), torch.tensor(targets, dtype=torch.float32))
    assert found.item() == pytest.approx(naive(SCORES, targets, temperature), rel=1e-5)


def test_permuting_the_negatives_changes_nothing() -> None:
    """The position of the positive does not matter."""
    order = [2, 0, 1]
    scores, targets = torch.tensor(SCORES), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    torch.testing.assert_close(InfoNCE()(scores[:, order], targets[:, order]), InfoNCE()(scores, targets))


def test_a_left_out_document_gets_no_gradient() -> None:
    """A second relevant document (target NaN) does not act as a negative."""
    scores = torch.tensor(SCORES, requires_grad=True)
    InfoNCE(temperature=1.0)(scores, torch.tensor([[1.0, NAN, 0], [0, 1.0, NAN]])).backward()
    assert scores.grad is not None
    assert (scores.grad == 0).tolist() == [[False, True, False], [False, False, True]]


def test_half_precision_scores_give_the_loss_of_fp32() -> None:
    """Dividing bfloat16 scores by the temperature happens in fp32, so that no precision is lost."""
    scores, targets = torch.tensor(SCORES).bfloat16(), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    assert InfoNCE()(scores, targets) == InfoNCE()(scores.float(), targets)


def test_a_batch_without_negatives_teaches_nothing_and_a_temperature_of_0_is_an_error() -> None:
    """The one may come by chance, the other is a mistake."""
    assert InfoNCE()(torch.tensor([[0.3, 0.1]]), torch.tensor([[1.0, NAN]])).item() == 0.0
    with pytest.raises(UserError, match=r"loss\.temperature=0"):
        InfoNCE(temperature=0)


def test_documents_with_the_largest_target_are_not_negatives_of_one_another() -> None:
    """Each of them competes with the lower ones alone, and their order does not matter."""
    scores = torch.tensor([[0.9, 0.1, -0.3, 0.4]])
    targets = torch.tensor([[2.0, 2.0, 0.0, 0.0]])
    alone = [LCE()(scores[:, kept], targets[:, kept]) for kept in ([0, 2, 3], [1, 2, 3])]
    torch.testing.assert_close(LCE()(scores, targets), torch.stack(alone).mean())
    torch.testing.assert_close(LCE()(scores[:, [1, 3, 0, 2]], targets[:, [1, 3, 0, 2]]), LCE()(scores, targets))


def test_a_difference_of_targets_tells_negatives_from_documents_that_are_left_out() -> None:
    """With 1.0, targets of 4.5 are nearly the best's 5.0 and left out, those of 4.0 and less are negatives."""
    targets = [[5.0, 4.5, 4.0], [1.0, 5.0, NAN]]
    found = LCE(min_target_diff=1.0)(torch.tensor(SCORES), torch.tensor(targets))
    assert found.item() == pytest.approx(naive(SCORES, targets, 1.0, 1.0), rel=1e-5)
    assert found.item() == pytest.approx(naive(SCORES, [[5.0, NAN, 4.0], targets[1]], 1.0), rel=1e-5)
    with pytest.raises(UserError, match=r"loss\.min_target_diff=0: it tells negatives apart"):
        LCE(min_target_diff=0)
    with pytest.raises(UserError, match=r"in-batch negatives have none; set loss\.in_batch=false"):
        InfoNCE(min_target_diff=1.0)
