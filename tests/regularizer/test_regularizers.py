"""FLOPS, L1 and L2 against their formulas, with the weights of queries and documents, and the ramp."""

from __future__ import annotations

import math

import pytest
import torch

from irexp.regularizer.flops import FLOPS
from irexp.regularizer.l1 import L1
from irexp.regularizer.l2 import L2
from irexp.regularizer.regularizer import Regularizer
from irexp.types import UserError

QUERIES = [[1.0, 0.0, 2.0], [0.0, 0.0, 4.0]]
DOCUMENTS = [[0.5, -1.0, 0.0]]


def flops(rows: list[list[float]]) -> float:
    """The sum of each column's squared mean."""
    return sum((sum(abs(row[v]) for row in rows) / len(rows)) ** 2 for v in range(3))


def l1(rows: list[list[float]]) -> float:
    """The mean of the rows' absolute sums."""
    return sum(sum(map(abs, row)) for row in rows) / len(rows)


def l2(rows: list[list[float]]) -> float:
    """The mean of the rows' lengths."""
    return sum(math.hypot(*row) for row in rows) / len(rows)


@pytest.mark.parametrize(("kind", "naive"), [(FLOPS, flops), (L1, l1), (L2, l2)])
def test_the_penalty_is_its_formula(kind: type[Regularizer], naive: object) -> None:
    """The penalty equals the naive formulas of queries and documents, each with its weight."""
    assert callable(naive)
    made = kind(query_weight=0.3, document_weight=0.2)
    found = made(torch.tensor(QUERIES), torch.tensor(DOCUMENTS), step=0, steps=10)
    assert found.item() == pytest.approx(0.3 * naive(QUERIES) + 0.2 * naive(DOCUMENTS))


@pytest.mark.parametrize(
    ("ramp", "expected"), [(0.5, [0.0, 0.04, 0.64, 1.0, 1.0]), (20.0, [0.0, 0.0025, 0.04, 0.0625, 0.25])]
)
def test_the_ramp_is_quadratic(ramp: float, expected: list[float]) -> None:
    """The weight rises quadratically from 0 to its full value; a ramp up to 1 is a fraction of all steps."""
    made = L1(query_weight=1.0, document_weight=0.0, ramp=ramp)
    ones = torch.tensor([[1.0]])
    found = [made(ones, ones, step=step, steps=10).item() for step in (0, 1, 4, 5, 10)]
    assert found == pytest.approx(expected)


def test_a_negative_weight_is_refused() -> None:
    """A negative weight would reward the terms that it should penalise."""
    with pytest.raises(UserError, match="query_weight=-1"):
        FLOPS(query_weight=-1, document_weight=0)
