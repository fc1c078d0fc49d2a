"""Paired two-sided significance tests of two runs, and corrections for multiple tests.

All tests take one measure's values per query, in the same order. Source: Smucker, Allan and Carterette 2007,
"A comparison of statistical significance tests for information retrieval evaluation", CIKM.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Smaller differences are rounding errors: measures are between 0 and 1 or count documents.
ROUNDING = 1e-12

# Differences that are equal to so many decimals share a rank.
_DECIMALS = 10

# The most differing pairs for which Wilcoxon's test is exact.
_MOST_EXACT = 50

# Sign flips held in memory: 2^22 doubles are 32 MiB.
FLIPS_AT_ONCE = 2**22


def paired_t_test(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value of Student's paired t-test.

        d_i = a_i - b_i,   t = mean(d) / (s(d) / sqrt(n)),   p = 2 P(T_{n-1} <= -|t|)

    where s is the standard deviation with n - 1 in the denominator. p = 1 for identical values and for fewer than two
    queries; p = 0 for a difference that is the same for every query.

    Raises:
        ValueError: if the lengths differ, or a value is not finite.
    """
    difference = _differences(a, b)
    n = len(difference)
    if n < 2 or not difference.any():
        return 1.0
    deviation = difference.std(ddof=1)
    if deviation < ROUNDING:
        return 0.0
    from scipy.special import stdtr  # imported by no command that compares nothing

    t = difference.mean() / (deviation / np.sqrt(n))
    return float(2 * stdtr(n - 1, -abs(t)))


def randomisation_test(a: Sequence[float], b: Sequence[float], *, permutations: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of Fisher's paired randomisation test, by sampled sign flips.

        p = (1 + #{flips: |sum_i f_i d_i| >= |sum_i d_i|}) / (1 + permutations),   f_i = -1 or 1 with equal chance

    The observed difference counts as one of the flips, so that p is never 0 and the test keeps its level
    (Phipson and Smyth 2010). p = 1 for identical values and for fewer than two queries.

    Args:
        a: the values of one run.
        b: the values of the other run, for the same queries in the same order.
        permutations: the number of sampled flips; the smallest p is 1 / (1 + permutations).
        seed: of the flips.

    Raises:
        ValueError: if the lengths differ, a value is not finite, or permutations is below 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1; got {permutations}")
    difference = _differences(a, b)
    difference = difference[difference != 0]  # flipping a zero changes nothing
    if len(difference) < 1 or len(a) < 2:
        return 1.0
    generator = np.random.default_rng(seed)
    observed = abs(difference.sum())
    at_once = max(1, FLIPS_AT_ONCE // len(difference))
    as_extreme = 0
    for start in range(0, permutations, at_once):
        size = (min(at_once, permutations - start), len(difference))
        is_flipped = generator.integers(0, 2, size=size, dtype=np.int8)
        # The sum with flipped signs is the sum minus twice the flipped part.
        flipped_sum = difference.sum() - 2 * (is_flipped @ difference)
        # A sum of equal magnitude may differ by rounding and still counts.
        as_extreme += int(np.count_nonzero(np.abs(flipped_sum) >= observed - ROUNDING * len(difference)))
    return (as_extreme + 1) / (permutations + 1)


def wilcoxon_test(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test (Wilcoxon 1945), which only uses the order of differences.

        R = sum of the ranks of |d_i| over d_i > 0,   p = 2 min(P(R' <= R), P(R' >= R)),   each sign with equal chance

    Equal pairs are left out, equal differences share their mean rank. p is exact for at most 50 pairs that differ, else
    from the normal approximation with R's own mean and variance. p = 1 if no pair differs.

    Raises:
        ValueError: if the lengths differ, or a value is not finite.
    """
    difference = _differences(a, b)
    difference = difference.round(_DECIMALS)  # 0.3 - 0.1 and 0.4 - 0.2 are equal but for rounding
    difference = difference[difference != 0]
    if len(difference) == 0:
        return 1.0
    _, group, counts = np.unique(np.abs(difference), return_inverse=True, return_counts=True)
    rank = (2 * np.cumsum(counts) - counts + 1)[group]  # twice the mean rank, a whole number
    positive, total = int(rank[difference > 0].sum()), int(rank.sum())
    if len(rank) > _MOST_EXACT:
        from scipy.special import ndtr

        return float(2 * ndtr(-abs(positive - total / 2) / (np.sqrt((rank**2).sum()) / 2)))
    ways = np.zeros(total + 1)  # how many of all signs give each sum; at most 2^50, which a double holds exactly
    ways[0] = 1
    for one in rank:
        ways[one:] += ways[:-one].copy()
    tail = min(ways[: positive + 1].sum(), ways[positive:].sum())
    return float(min(1.0, 2 * tail / 2 ** len(rank)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given: the chance of one false alarm among all tests stays below alpha.

        p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, position in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Bonferroni's adjustment, p' = min(1, m p): simpler than Holm's and never smaller."""
    return [min(1.0, len(p_values) * p_value) for p_value in p_values]


def _differences(a: Sequence[float], b: Sequence[float]) -> NDArray[np.float64]:
    if len(a) != len(b):
        raise ValueError(f"a paired test needs the same queries on both sides; got {len(a)} and {len(b)} values")
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("a paired test needs finite values; one is NaN or infinite")
    difference[np.abs(difference) < ROUNDING] = 0.0
    return difference
