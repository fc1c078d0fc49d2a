"""Every measure of the engines against its naive formula, for positive and negative grades."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import pytest

from irexp.config.measure import ENGINE, parse_measure
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.types import MOST_RELEVANT, Qrel, ScoredDoc, UserError

Formula = Callable[[list[str], Mapping[str, int]], float]


def hits(order: list[str], grade_of: Mapping[str, int], least: int) -> int:
    """The number of documents in a ranking with at least a grade."""
    return sum(grade_of.get(doc_id, -1) >= least for doc_id in order)


def total(grade_of: Mapping[str, int], least: int) -> int:
    """The number of judged documents with at least a grade."""
    return sum(grade >= least for grade in grade_of.values())


def ratio(above: float, below: float) -> float:
    """A quotient, or 0 if the divisor is 0."""
    return above / below if below else 0.0


def precision(k: int, least: int = 1) -> Formula:
    """The share of relevant documents among the first k."""
    return lambda order, grade_of: hits(order[:k], grade_of, least) / k


def recall(k: int, least: int = 1) -> Formula:
    """The share of all relevant documents that are among the first k."""
    return lambda order, grade_of: ratio(hits(order[:k], grade_of, least), total(grade_of, least))


def success(k: int, least: int = 1) -> Formula:
    """1 if one of the first k documents is relevant, else 0."""
    return lambda order, grade_of: float(hits(order[:k], grade_of, least) > 0)


def reciprocal_rank(k: int = 999, least: int = 1) -> Formula:
    """One over the rank of the first relevant document."""

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        for rank, doc_id in enumerate(order[:k], 1):
            if grade_of.get(doc_id, -1) >= least:
                return 1 / rank
        return 0.0

    return formula


def average_precision(k: int = 999, least: int = 1) -> Formula:
    """The sum of the precisions at relevant documents, divided by the number of relevant documents."""

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        found = [rank for rank, d in enumerate(order[:k], 1) if grade_of.get(d, -1) >= least]
        return ratio(sum(hits(order[:rank], grade_of, least) / rank for rank in found), total(grade_of, least))

    return formula


def ndcg(k: int = 999, gains: Mapping[int, int] | None = None) -> Formula:
    """Gains / log2(rank + 1), divided by the same of the ideal order; a negative grade has gain 0."""

    def dcg(grades: list[int]) -> float:
        gained = [(gains or {}).get(grade, grade) for grade in grades]
        return sum(max(gain, 0) / math.log2(rank + 1) for rank, gain in enumerate(gained[:k], 1))

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        best = sorted(grade_of.values(), key=lambda grade: -(gains or {}).get(grade, grade))
        return ratio(dcg([grade_of.get(doc_id, -1) for doc_id in order]), dcg(best))

    return formula


def r_precision(least: int = 1) -> Formula:
    """The precision at R, the number of relevant documents."""
    return lambda order, grade_of: ratio(hits(order[: total(grade_of, least)], grade_of, least), total(grade_of, least))


def interpolated_precision(share: float) -> Formula:
    """The best precision at any rank at which a share of the relevant documents has been found."""

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        wanted = int(share * total(grade_of, 1) + 0.9)  # trec_eval's way of rounding up
        cuts = [order[:rank] for rank in range(1, len(order) + 1)]
        return max([hits(cut, grade_of, 1) / len(cut) for cut in cuts if hits(cut, grade_of, 1) >= wanted], default=0)

    return formula


def set_precision(least: int = 1) -> Formula:
    """The precision of all results."""
    return lambda order, grade_of: hits(order, grade_of, least) / len(order)


def set_f(x: float, least: int = 1) -> Formula:
    """(x + 1) P R / (R + x P), as in trec_eval."""

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        p, r = set_precision(least)(order, grade_of), recall(999, least)(order, grade_of)
        return ratio((x + 1) * p * r, r + x * p)

    return formula


def b_pref(least: int = 1) -> Formula:
    """1 - the share of judged non-relevant documents above each relevant one; negative grades count as unjudged."""

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        relevant = total(grade_of, least)
        others = sum(0 <= grade < least for grade in grade_of.values())
        value, above = 0.0, 0
        for doc_id in order:
            grade = grade_of.get(doc_id, -1)
            if grade >= least:
                value += 1 - min(above, relevant) / min(others, relevant) if above else 1.0
            above += 0 <= grade < least
        return ratio(value, relevant)

    return formula


def inferred_ap(order: list[str], grade_of: Mapping[str, int]) -> float:
    """Average precision over a pool in which documents with negative grades were not judged."""
    value, relevant, others, unjudged = 0.0, 0, 0, 0
    for j, doc_id in enumerate(order):
        grade = grade_of.get(doc_id)
        if grade is None:
            continue
        if grade >= 1:
            pooled = relevant + others + unjudged
            expected = (relevant + 1e-5) / (relevant + others + 2e-5)
            value += 1 / (j + 1) + (j / (j + 1)) * (pooled / j) * expected if j else 1.0
        relevant, others, unjudged = relevant + (grade >= 1), others + (grade == 0), unjudged + (grade < 0)
    return ratio(value, total(grade_of, 1))


def judged(k: int) -> Formula:
    """The share of the first k documents that have any grade."""
    return lambda order, grade_of: sum(doc_id in grade_of for doc_id in order[:k]) / min(k, len(order))


def compatibility(p: float) -> Formula:
    """Rank-biased overlap with the ideal order closest to the run, divided by that order's overlap with itself."""

    def overlap(a: list[str], b: list[str], depth: int) -> float:
        weights = [p**i for i in range(depth)]
        shares = [len(set(a[: i + 1]) & set(b[: i + 1])) / (i + 1) for i in range(depth)]
        return sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)

    def formula(order: list[str], grade_of: Mapping[str, int]) -> float:
        place = {doc_id: rank for rank, doc_id in enumerate(order)}
        relevant = [doc_id for doc_id, grade in grade_of.items() if grade > 0]
        best = sorted(relevant, key=lambda doc_id: (-grade_of[doc_id], place.get(doc_id, 999)))
        depth = max(len(order), len(best))
        return ratio(overlap(order, best, depth), overlap(best, best, depth) if best else 0)

    return formula


def of_judged(formula: Formula) -> Formula:
    """The formula on a ranking without the documents that have no grade or a negative one."""
    return lambda order, grade_of: formula([d for d in order if grade_of.get(d, -1) >= 0], grade_of)


FORMULAS: dict[str, Formula] = {
    "P@3": precision(3),
    "P(rel=2)@5": precision(5, 2),
    "P(judged_only=True)@3": of_judged(precision(3)),
    "R@4": recall(4),
    "R(rel=3)@10": recall(10, 3),
    "R(judged_only=True)@4": of_judged(recall(4)),
    "Success@1": success(1),
    "Success(rel=2)@3": success(3, 2),
    "Success(judged_only=True)@2": of_judged(success(2)),
    "RR": reciprocal_rank(),
    "RR(rel=2)": reciprocal_rank(least=2),
    "RR(judged_only=True)": of_judged(reciprocal_rank()),
    "RR@3": reciprocal_rank(3),
    "RR(rel=2)@10": reciprocal_rank(10, 2),
    "AP": average_precision(),
    "AP@5": average_precision(5),
    "AP(rel=2)": average_precision(least=2),
    "AP(judged_only=True)": of_judged(average_precision()),
    "nDCG": ndcg(),
    "nDCG@3": ndcg(3),
    "nDCG@10": ndcg(10),
    "nDCG(judged_only=True)@5": of_judged(ndcg(5)),
    "nDCG(gains={2:3,3:7})@5": ndcg(5, {2: 3, 3: 7}),
    "nDCG(gains={0:1})": ndcg(gains={0: 1}),
    "Rprec": r_precision(),
    "Rprec(rel=2)": r_precision(2),
    "IPrec@0.0": interpolated_precision(0.0),
    "IPrec@0.5": interpolated_precision(0.5),
    "IPrec@1.0": interpolated_precision(1.0),
    "SetP": set_precision(),
    "SetP(rel=2)": set_precision(2),
    "SetP(relative=True)": lambda order, g: ratio(hits(order, g, 1), min(len(order), total(g, 1))),
    "SetR": recall(999),
    "SetR(rel=2)": recall(999, 2),
    "SetF": set_f(1.0),
    "SetF(beta=0.5)": set_f(0.5),
    "SetF(beta=2.0)": set_f(2.0),
    "SetAP": lambda order, g: ratio(hits(order, g, 1) ** 2, len(order) * total(g, 1)),
    "Bpref": b_pref(),
    "Bpref(rel=2)": b_pref(2),
    "infAP": inferred_ap,
    "NumRet": lambda order, g: len(order),
    "NumRet(rel=1)": lambda order, g: hits(order, g, 1),
    "NumRel": lambda order, g: total(g, 1),
    "NumQ": lambda order, g: 1.0,
    "Judged@5": judged(5),
    "Judged": judged(999),
    "Compat": compatibility(0.95),
    "Compat(p=0.5)": compatibility(0.5),
}

#: Sets of grades from which the judgements of a query are drawn.
GRADES = [[0, 1], [-1, 0, 1, 2, 3], [-2, 0, 1, 4], [-2], [-1], [-2, -1], [0], [-3, 0], [-1, 1], [1, 10, 1000]]


def test_values_are_those_of_the_formulas() -> None:
    """Every measure equals its formula for any mixture of grades, including negative grades only."""
    measures = parse_measures(list(FORMULAS))
    assert [str(measure) for measure in measures] == list(FORMULAS)
    for seed in range(20):
        generator = random.Random(seed)
        doc_ids = [f"d{number}" for number in range(14)]
        grade_of: dict[str, dict[str, int]] = {}
        order_of: dict[str, list[str]] = {}
        for number in range(12):
            grades = generator.choice(GRADES) if number else [0, 1, 2, 3]
            judged_ids = generator.sample(doc_ids, generator.randint(8 if number == 0 else 1, 10))
            grade_of[f"q{number}"] = {doc_id: generator.choice(grades) for doc_id in judged_ids}
            order_of[f"q{number}"] = generator.sample(doc_ids, generator.randint(1, 14))
        grade_of["q0"] |= {"d0": 3, "d1": 1}
        run = [ScoredDoc(q, d, -float(rank)) for q, order in order_of.items() for rank, d in enumerate(order)]
        qrels = [Qrel(q, d, grade) for q, grades in grade_of.items() for d, grade in grades.items()]
        measured = evaluate(run, qrels, measures)
        for name, formula in FORMULAS.items():
            expected = {query: formula(order_of[query], grade_of[query]) for query in grade_of}
            assert measured.per_query[name] == pytest.approx(expected, abs=1e-7), (name, seed)


def test_a_value_does_not_depend_on_other_measures() -> None:
    """Measured together, nDCG must not get another measure's gains, nor NumRet its results."""
    run = [ScoredDoc("1", doc_id, -float(rank)) for rank, doc_id in enumerate("axbcyz")]
    qrels = [Qrel("1", "a", 1), Qrel("1", "b", 3), Qrel("1", "c", 2)]
    for cutoff in range(1, 9):
        own = [f"nDCG@{cutoff}", "nDCG", "NumRet", "NumQ", f"P@{cutoff}"]
        others = [f"nDCG(gains={{2:3,3:7}})@{cutoff}", f"P(judged_only=True)@{cutoff}", f"RR(rel=2)@{cutoff}"]
        together = evaluate(run, qrels, parse_measures([*others, *own])).aggregated
        for name in [*own, *others]:
            assert evaluate(run, qrels, parse_measures([name])).aggregated == {name: together[name]}


def test_every_measure_of_the_engines_has_a_formula() -> None:
    """A measure that the engines can compute is not missing from the test above."""
    computed = {measure.NAME for engine in ENGINE.providers for measure in engine.SUPPORTED_MEASURES}
    assert {parse_measure(name).NAME for name in FORMULAS} == computed


@pytest.mark.parametrize("grade", [2**31 - 1, 2**31, 2**63, -(2**31), 10**30, MOST_RELEVANT + 1])
def test_a_grade_above_the_limit_is_refused(grade: int) -> None:
    """The engines keep a counter per grade and would run out of memory or overflow."""
    with pytest.raises(UserError, match="above 1,000,000, the largest"):
        evaluate([ScoredDoc("1", "a", 1.0)], [Qrel("1", "a", grade), Qrel("1", "b", 1)], parse_measures(["nDCG"]))


def test_the_largest_grade_is_measured_correctly() -> None:
    """The value of nDCG with the largest allowed grade equals its formula."""
    qrels = [Qrel("1", "a", MOST_RELEVANT), Qrel("1", "b", 1), Qrel("1", "c", -MOST_RELEVANT)]
    run = [ScoredDoc("1", "c", 3.0), ScoredDoc("1", "a", 2.0)]
    value = evaluate(run, qrels, parse_measures(["nDCG@10"])).aggregated["nDCG@10"]
    assert value == pytest.approx(ndcg()(["c", "a"], {"a": MOST_RELEVANT, "b": 1, "c": -MOST_RELEVANT}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("P(rel=0)@5", "the rel of .* a grade of at least 1"),
        ("RR(rel=0)@5", "the rel of"),
        ("AP(rel=True)", "the rel of"),
        ("nDCG@2147483648", "the cutoff of"),
        (f"R@1{'0' * 30}", "the cutoff of"),
        ("IPrec@1.5", "the recall of .* from 0 to 1"),
        ("IPrec@0.123", "at most two digits"),
        ("SetF(beta=1e400)", "the beta of"),
        ("Compat(p=2.0)", "the p of"),
        ("nDCG(gains={1:0.5})@5", "the gains of .* a whole number for each grade"),
        ("nDCG(gains={'a':1})@5", "the gains of"),
        ("nDCG(gains={1:2147483647})", "the gains of"),
        ("P@" + "[" * 5000, "not of the form"),
        ("P@" + "-" * 5000 + "1", "not of the form"),
    ],
)
def test_a_parameter_that_engines_fail_on_is_refused(name: str, message: str) -> None:
    """The parameter's range is named before any search, instead of a crash of the engine after it."""
    with pytest.raises(UserError, match=message):
        parse_measures([name])
