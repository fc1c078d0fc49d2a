"""How much two computations of the same value may differ in fp32."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_equal_but_for_rounding(found: Any, expected: Any) -> None:
    """Assert that scores or vectors of a tiny transformer differ by at most 1e-5 of the largest value.

    A matrix product that sums a hundred terms has rounding errors of about sqrt(100) eps / 2 = 6e-7 of the largest
    value, which depend on batch shape and processor. The twenty products of a score in sequence make that 3e-6, which a
    softmax can enlarge a few times. A different text, mask, length or weight changes far more.
    """
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
