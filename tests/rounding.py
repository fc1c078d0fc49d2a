"""How much two ways of computing the same may differ in fp32."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_equal_but_for_rounding(found: Any, expected: Any) -> None:
    """Scores or vectors of a tiny transformer are equal to 1e-5 of the largest.

    A product of matrices that sums a hundred terms rounds its values by some sqrt(100) eps / 2 = 6e-7 of the largest,
    in another way for every shape of a batch and every processor. The twenty products of a score, one after another,
    make that 3e-6, which a softmax can enlarge a few times. Another text, mask, length or weight changes far more.
    """
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
