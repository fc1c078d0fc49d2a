"""The tolerance for two computations of the same values in fp32."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_equal_but_for_rounding(found: Any, expected: Any) -> None:
    """Assert that scores or vectors of a tiny transformer are equal up to 1e-5 of the largest value.

    A matrix product that sums a hundred terms has an error of about sqrt(100) eps / 2 = 6e-7 of its largest value; the
    error depends on the batch's shape and the processor. Twenty products in sequence give sqrt(20) times that, 3e-6,
    and a softmax can multiply it a few times. Another text, mask, length or weight changes the values far more.
    """
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
