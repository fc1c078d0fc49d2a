"""InfoNCE against its formula in loops."""

from __future__ import annotations

import math

import pytest
import torch

from irexp.loss.info_nce import InfoNCE
from irexp.types import UserError


def naive(scores: list[list[float]], targets: list[list[float]], temperature: float) -> float:
    """The formula of the module's docstring, in loops."""
    losses = []
    for row, target in zip(scores, targets, strict=True):
        kept = [(t, math.exp(s / temperature)) for s, t in zip(row, target, strict=True) if not math.isnan(t)]
        positive = max(kept, key=lambda pair: pair[0])[1]
        losses.append(-math.log(positive / sum(value for _, value in kept)))
    return sum(losses) / len(losses)


NAN = math.nan
SCORES = [[0.9, 0.1, -0.3], [0.2, 0.4, 0.8]]


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("targets", [[[1, 0, 0], [0, 1, 0]], [[1, NAN, 0], [NAN, 1, 0]], [[0.2, 0.1, 0.3], [3, 2, 1]]])
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


def test_a_batch_without_negatives_or_a_temperature_of_0_is_an_error() -> None:
    """A loss that is always zero would train nothing without a message."""
    with pytest.raises(UserError, match="no query of the batch has a negative"):
        InfoNCE()(torch.tensor([[0.3, 0.1]]), torch.tensor([[1.0, NAN]]))
    with pytest.raises(UserError, match=r"loss\.temperature=0"):
        InfoNCE(temperature=0)
