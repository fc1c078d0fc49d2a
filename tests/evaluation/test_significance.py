"""Significance tests against scipy, enumeration and values computed by hand."""

import itertools
import random
import statistics

import pytest
from scipy import stats

from irexp.evaluation import significance
from irexp.evaluation.significance import bonferroni, holm, paired_t_test, randomisation_test, wilcoxon_test


def random_pair(seed: int, queries: int) -> tuple[list[float], list[float]]:
    """Values of two runs, the first of which is slightly better."""
    generator = random.Random(seed)
    b = [generator.random() for _ in range(queries)]
    return [value + generator.gauss(0.05, 0.2) for value in b], b


def enumerated_p(a: list[float], b: list[float]) -> float:
    """The share of all sign flips whose sum is at least as far from 0 as the observed sum."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    flips = list(itertools.product([1, -1], repeat=len(differences)))
    observed = abs(sum(differences))
    extreme = [abs(sum(f * d for f, d in zip(flip, differences, strict=True))) >= observed - 1e-9 for flip in flips]
    return sum(extreme) / len(flips)


def test_the_t_test_equals_scipys() -> None:
    """The p-value equals that of scipy's paired test on random values of many lengths."""
    for seed, queries in enumerate([2, 3, 10, 50, 1000]):
        a, b = random_pair(seed, queries)
        assert paired_t_test(a, b) == pytest.approx(float(stats.ttest_rel(a, b).pvalue), rel=1e-9)


def test_the_t_test_is_its_formula() -> None:
    """Two queries by hand: with one degree of freedom p = 1 - 2 arctan(|t|) / pi, here t = 0.2 / 0.1 = 2."""
    a, b = [0.4, 0.5], [0.3, 0.2]  # differences 0.1 and 0.3: mean 0.2, deviation 0.1 sqrt(2)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    assert statistics.mean(differences) / (statistics.stdev(differences) / 2**0.5) == pytest.approx(2)
    assert paired_t_test(a, b) == pytest.approx(0.2951672353)


def test_the_randomisation_test_approximates_enumeration() -> None:
    """For few queries, p from sampled flips is within five standard errors of p from all flips."""
    for seed in range(5):
        a, b = random_pair(seed, 9)
        expected = enumerated_p(a, b)
        p_value = randomisation_test(a, b, permutations=20_000, seed=seed)
        assert p_value == pytest.approx(expected, abs=5 * (expected * (1 - expected) / 20_000) ** 0.5 + 1e-4)


def test_flips_of_equal_magnitude_count_as_extreme() -> None:
    """Of three equal differences 2 of 8 flips are as extreme, despite rounding."""
    assert randomisation_test([0.4, 0.5, 0.8], [0.3, 0.4, 0.7], permutations=50_000) == pytest.approx(0.25, abs=0.01)


def test_the_observed_order_is_one_of_the_flips() -> None:
    """However clear the difference, p is at least 1 / (permutations + 1) and never 0."""
    assert randomisation_test([1.0] * 60, [0.0] * 60, permutations=99) == 1 / 100


def test_chunked_flips_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn in small chunks, all permutations count, including the last incomplete chunk."""
    a, b = random_pair(1, 12)
    whole = randomisation_test(a, b, permutations=5_003)
    monkeypatch.setattr(significance, "FLIPS_AT_ONCE", 12 * 100)
    assert randomisation_test(a, b, permutations=5_003) == pytest.approx(whole, abs=0.03)
    assert randomisation_test([1.0] * 60, [0.0] * 60, permutations=5_003) == 1 / 5_004


def test_the_tests_are_symmetric_and_repeatable() -> None:
    """Swapping the runs, or repeating the test, gives the same p."""
    a, b = random_pair(7, 30)
    assert paired_t_test(a, b) == paired_t_test(b, a)
    assert randomisation_test(a, b) == randomisation_test(b, a) == randomisation_test(a, b)
    assert randomisation_test(a, b, seed=1) != randomisation_test(a, b, seed=2)


def test_without_evidence_p_is_one() -> None:
    """The p-value is 1 and not NaN for identical values, rounding errors, a single query and none."""
    rounding = [0.1 + 0.2, 0.1 + 0.2, 0.5]
    for a, b in [([0.5] * 4, [0.5] * 4), (rounding, [0.3, 0.3, 0.5]), ([0.9], [0.1]), ([], [])]:
        assert paired_t_test(a, b) == 1.0
        assert randomisation_test(a, b) == 1.0


def test_the_t_test_of_a_constant_difference_is_0() -> None:
    """The same difference for every query has no deviation, so p = 0 despite rounding."""
    assert paired_t_test([0.4, 0.5, 0.8], [0.3, 0.4, 0.7]) == 0.0


def test_unpaired_or_infinite_values_are_refused() -> None:
    """Different lengths and values that are not finite are errors, not a meaningless p."""
    for test in (paired_t_test, randomisation_test):
        with pytest.raises(ValueError, match="2 and 1"):
            test([1.0, 2.0], [1.0])
        with pytest.raises(ValueError, match="finite"):
            test([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="permutations"):
        randomisation_test([1.0], [1.0], permutations=0)


def approximated_p(a: list[float], b: list[float]) -> float:
    """Wilcoxon's normal approximation by its formula: without equal pairs, its variance corrected for ties."""
    found = [round(x - y, 9) for x, y in zip(a, b, strict=True) if round(x - y, 9) != 0]
    n, sizes = len(found), sorted(abs(difference) for difference in found)
    rank_of = {size: statistics.mean(i + 1 for i, other in enumerate(sizes) if other == size) for size in sizes}
    positive = sum(rank_of[abs(difference)] for difference in found if difference > 0)
    ties = [sizes.count(size) for size in set(sizes)]
    variance = n * (n + 1) * (2 * n + 1) / 24 - sum(t**3 - t for t in ties) / 48
    z = (positive - n * (n + 1) / 4) / variance**0.5
    return 2 * (1 - statistics.NormalDist().cdf(abs(z)))


def tenths(seed: int, queries: int) -> tuple[list[float], list[float]]:
    """Values in tenths, as of RR: many differences are equal but for rounding, and many pairs are."""
    generator = random.Random(seed)
    a = [generator.randint(0, 10) / 10 for _ in range(queries)]
    return a, [generator.randint(0, 8) / 10 for _ in range(queries)]


@pytest.mark.parametrize("queries", [70, 400])
def test_wilcoxons_test_of_many_queries_is_the_normal_approximation(queries: int) -> None:
    """With equal differences, with equal pairs and without either; scipy's own says the same."""
    for a, b in (tenths(queries, queries), random_pair(queries, queries)):
        assert wilcoxon_test(a, b) == wilcoxon_test(b, a) == pytest.approx(approximated_p(a, b), rel=1e-6)
        difference = [round(x - y, 9) for x, y in zip(a, b, strict=True)]
        expected = stats.wilcoxon(difference, correction=False, axis=None).pvalue
        assert wilcoxon_test(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_wilcoxons_test_of_few_queries_is_exact() -> None:
    """As all signs enumerated for a dozen queries with equal differences, and as scipy for 50 without."""
    for seed in range(5):
        a, b = tenths(seed, 12)
        found = [round(x - y, 9) for x, y in zip(a, b, strict=True) if round(x - y, 9) != 0]
        sizes = sorted(map(abs, found))
        assert len(set(sizes)) < len(sizes)
        ranks = [statistics.mean(i + 1 for i, size in enumerate(sizes) if size == abs(one)) for one in found]
        signs = itertools.product([0, 1], repeat=len(ranks))
        sums = [sum(r for r, sign in zip(ranks, chosen, strict=True) if sign) for chosen in signs]
        observed = sum(r for r, one in zip(ranks, found, strict=True) if one > 0)
        tails = sum(one <= observed for one in sums), sum(one >= observed for one in sums)
        assert wilcoxon_test(a, b) == pytest.approx(min(1.0, 2 * min(tails) / len(sums)))
    a, b = random_pair(50, 50)
    expected = stats.wilcoxon([x - y for x, y in zip(a, b, strict=True)], method="exact").pvalue
    assert wilcoxon_test(a, b) == pytest.approx(float(expected), rel=1e-9)
    assert wilcoxon_test(a, b) != pytest.approx(approximated_p(a, b), rel=1e-6)


def test_holm_is_its_formula() -> None:
    """By hand: 0.01 x 4, 0.02 x 3, then 0.03 x 2 but at least the previous one, and 0.9; in the given order."""
    assert holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_bonferroni_is_its_formula() -> None:
    """Each p is multiplied by the number of tests and at most 1."""
    assert bonferroni([0.01, 0.2, 0.5]) == pytest.approx([0.03, 0.6, 1.0])


def test_holm_is_between_no_correction_and_bonferroni() -> None:
    """Random p-values adjusted by Holm are at least the raw ones, at most Bonferroni's, and keep their order."""
    generator = random.Random(0)
    for _ in range(100):
        p_values = [generator.random() ** 3 for _ in range(generator.randint(1, 8))]
        adjusted = holm(p_values)
        assert all(p <= h <= b for p, h, b in zip(p_values, adjusted, bonferroni(p_values), strict=True))
        in_order = [h for _, h in sorted(zip(p_values, adjusted, strict=True))]
        assert in_order == sorted(in_order)
