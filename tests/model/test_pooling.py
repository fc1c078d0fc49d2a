"""Every pooling against its formula in loops."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from irexp.model.pooling import Pooling, check_poolings, pool
from irexp.types import UserError

VECTORS = [[[1.0, -2.0], [3.0, -4.0], [9.0, 9.0]], [[0.5, -1.0], [2.0, -6.0], [-1.0, -3.0]]]
MASK = [[1, 1, 0], [0, 1, 1]]


def naive(vectors: list[list[float]], mask: list[int], pooling: str) -> list[float]:
    """The pooled vector of one text, one dimension after the other."""
    kept = [(place + 1, vector) for place, (vector, m) in enumerate(zip(vectors, mask, strict=True)) if m]
    result = []
    for dim in range(len(vectors[0])):
        values = [(place, vector[dim]) for place, vector in kept]
        total = sum(value for _, value in values)
        result.append(
            {
                "mean": total / len(values),
                "mean_sqrt_len": total / math.sqrt(len(values)),
                "weighted_mean": sum(p * v for p, v in values) / sum(p for p, _ in values),
                "max": max(value for _, value in values),
                "cls": values[0][1],
                "last": values[-1][1],
            }[pooling]
        )
    return result


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_a_pooling_is_its_formula_and_ignores_padding(pooling: Pooling) -> None:
    """The last token of the first text is padding with the largest values: it must not change the result."""
    found = pool(torch.tensor(VECTORS), torch.tensor(MASK), pooling)
    expected = [naive(vectors, mask, pooling) for vectors, mask in zip(VECTORS, MASK, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_unknown_pooling_names_the_choices() -> None:
    """A misspelt pooling is refused with the list of poolings."""
    with pytest.raises(UserError, match="mean"):
        check_poolings("meen")
