"""InfoNCE against its formula in loops."""

from __future__ import annotations

import math

import pytest
import torch

from irexp.loss.info_nce import InfoNCE
from irexp.types import UserError


def naive(scores: list[list[float]], targets: list[list[float]], temperature: float) -> float:
    """The formula of the module's docstring, one number after the other."""
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
    """The loss of two queries and three documents can be checked by hand."""
    found = InfoNCE(temperature=temperature)(torch.tensor(SCORES), torch.tensor(targets, dtype=torch.float32))
    assert found.item() == pytest.approx(naive(SCORES, targets, temperature), rel=1e-5)


def test_permuting_the_negatives_changes_nothing() -> None:
    """Only what is positive matters, not where it stands."""
    order = [2, 0, 1]
    scores, targets = torch.tensor(SCORES), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    torch.testing.assert_close(InfoNCE()(scores[:, order], targets[:, order]), InfoNCE()(scores, targets))


def test_a_document_that_is_left_out_gets_no_gradient() -> None:
    """A known positive beside the positive is neither pulled nor pushed."""
    scores = torch.tensor(SCORES, requires_grad=True)
    InfoNCE(temperature=1.0)(scores, torch.tensor([[1.0, NAN, 0], [0, 1.0, NAN]])).backward()
    assert scores.grad is not None
    assert (scores.grad == 0).tolist() == [[False, True, False], [False, False, True]]


def test_half_precision_scores_are_compared_in_full() -> None:
    """Scores of bfloat16 divided by 0.05 lose nothing further."""
    scores, targets = torch.tensor(SCORES).bfloat16(), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    assert InfoNCE()(scores, targets) == InfoNCE()(scores.float(), targets)


def test_without_a_negative_there_is_nothing_to_learn() -> None:
    """One query with its document alone is an error rather than a loss of zero."""
    with pytest.raises(UserError, match="no query of the batch has a negative"):
        InfoNCE()(torch.tensor([[0.3, 0.1]]), torch.tensor([[1.0, NAN]]))
    with pytest.raises(UserError, match=r"loss\.temperature=0"):
        InfoNCE(temperature=0)
