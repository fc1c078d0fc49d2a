"""Fusion against its formulas and against ranx, and what it does where a run lacks something."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from irexp.evaluation.fusion import METHODS, NORMS, Scores, best_weights, by_query, fuse
from irexp.evaluation.measures import parse_measures
from irexp.types import Qrel, ScoredDoc

#: Runs and what ranx 0.3.21 makes of them: tests/data/make_fusion.py.
RANX = json.loads((Path(__file__).parents[1] / "data" / "fusion.json").read_text(encoding="utf8"))

A: Scores = {"q1": {"a": 3.0, "b": 2.0, "c": 0.5}, "q2": {"a": 1.0, "d": 0.25}}
B: Scores = {"q1": {"c": 9.0, "a": 7.0, "e": 1.0}, "q3": {"f": 2.0, "a": 1.0}}


def naive(method: str, norm: str, weights: list[float]) -> Scores:
    """The formulas of the module, in loops."""
    fused: Scores = {}
    for run, weight in zip((A, B), weights, strict=True):
        for query, scores in run.items():
            low, high = min(scores.values()), max(scores.values())
            mean = sum(scores.values()) / len(scores)
            deviation = (sum((s - mean) ** 2 for s in scores.values()) / len(scores)) ** 0.5
            for rank, (doc_id, score) in enumerate(scores.items(), 1):
                normalised = {"min-max": (score - low) / (high - low), "zmuv": (score - mean) / deviation}
                value = normalised.get(norm, score)
                value = {"rrf": 1 / (60 + rank), "wsum": weight * value}.get(method, value)
                found = fused.setdefault(query, {})
                found[doc_id] = found.get(doc_id, 0.0) + value
    if method == "mnz":
        for query, scores in fused.items():
            for doc_id in scores:
                scores[doc_id] *= sum(doc_id in run.get(query, {}) for run in (A, B))
    return fused


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_fusion_is_its_formula(method: str, norm: str) -> None:
    """Also for queries that one of the runs does not answer."""
    found = fuse([A, B], method=method, norm=norm, k=60, weights=[0.3, 0.7])
    expected = naive(method, norm, [0.3, 0.7])
    assert found.keys() == expected.keys()
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, abs=1e-12)


def test_ranks_are_those_of_a_run_whatever_its_file_says() -> None:
    """Equal scores rank by document id."""
    run = by_query([ScoredDoc("q", "b", 1.0), ScoredDoc("q", "a", 1.0), ScoredDoc("q", "c", 2.0)])
    assert list(run["q"]) == ["c", "a", "b"]
    fused = fuse([run, run], method="rrf", norm="none", k=1, weights=None)["q"]
    assert fused == pytest.approx({"c": 2 / 2, "a": 2 / 3, "b": 2 / 4})


@pytest.mark.parametrize("combination", RANX["fused"])
def test_a_fusion_is_that_of_ranx(combination: str) -> None:
    """Every score of three runs, one of which lacks a query, and every order."""
    method, norm = combination.split()
    found = fuse(RANX["runs"], method=method, norm=norm, k=60, weights=RANX["weights"])
    expected = RANX["fused"][combination]
    assert found.keys() == expected.keys() and len(found) == 3
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, rel=1e-12, abs=1e-12)
        assert sorted(found[query], key=found[query].__getitem__) == sorted(scores, key=scores.__getitem__)


def test_every_method_and_norm_is_compared_with_ranx() -> None:
    """Ranks are not normalised, so that rrf is there once."""
    assert len(RANX["fused"]) == 1 + (len(METHODS) - 1) * len(NORMS)
    assert {combination.split()[0] for combination in RANX["fused"]} == set(METHODS)


@pytest.mark.parametrize("combination", RANX["tuned"])
def test_weights_are_those_of_ranx(combination: str) -> None:
    """For each kind of measure, with and without a cutoff, two runs and three, and of equal weights the same."""
    name, norm, step, number = combination.split()
    (measure,) = parse_measures([name])
    qrels = [Qrel(query, doc_id, value) for query, judged in RANX["qrels"].items() for doc_id, value in judged.items()]
    runs = RANX["tuned_runs"][: int(number)]
    assert best_weights(runs, qrels, norm=norm, measure=measure, step=float(step)) == RANX["tuned"][combination]


def test_what_has_no_range_counts_as_in_ranx() -> None:
    """The only document of a run is its minimum, and an infinite score leaves no number; ranks are not concerned."""
    runs: list[Scores] = [{"q": {"a": 2.0}}, {"q": {"b": math.inf, "a": 1.0}}]
    fused = fuse(runs, method="sum", norm="min-max", k=60, weights=None)["q"]
    assert fused["a"] == 0 and math.isnan(fused["b"])
    assert fuse(runs[:1], method="sum", norm="zmuv", k=60, weights=None) == {"q": {"a": 0.0}}
    ranks = fuse(runs, method="rrf", norm="min-max", k=60, weights=None)["q"]
    assert ranks == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 61})


def test_weights_are_found_that_favour_the_better_run() -> None:
    """The second run alone is right, and loses if both count the same; an unjudged query says so."""
    good = {f"q{n}": {"x": 0.2, "y": 1.0, "z": 0.0} for n in range(5)}
    bad = {f"q{n}": {"x": 1.0, "y": 0.1, "z": 0.0} for n in range(5)}
    qrels = [Qrel(f"q{n}", "y", 1) for n in range(5)]
    (measure,) = parse_measures(["RR"])
    weights = best_weights([bad, good], qrels, norm="none", measure=measure, step=0.25)
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > weights[0]
    with pytest.raises(ValueError, match="no query with a document of relevance 1"):
        best_weights([bad, good], [], norm="none", measure=measure, step=0.25)
    assert best_weights([good, good], qrels, norm="none", measure=measure, step=0.25) == [1, 0]


def test_a_cutoff_among_judged_documents_is_not_a_cutoff_of_the_ranking() -> None:
    """An unjudged document stands first in both runs, and what counts is which of them has the relevant one second."""
    bad, good = {"q": {"u": 3.0, "x": 1.0, "y": 0.0}}, {"q": {"u": 3.0, "y": 1.0, "x": 0.0}}
    (measure,) = parse_measures(["nDCG(judged_only=True)@1"])
    weights = best_weights([bad, good], [Qrel("q", "y", 1), Qrel("q", "x", 0)], norm="none", measure=measure, step=0.25)
    assert weights[1] > weights[0]


def test_weights_need_a_query_with_a_document_as_relevant_as_the_measure_asks() -> None:
    """P(rel=2) counts documents of relevance 2."""
    runs: list[Scores] = [{"q": {"a": 2.0, "b": 1.0}}] * 2
    (measure,) = parse_measures(["P(rel=2)@1"])
    with pytest.raises(ValueError, match="no query with a document of relevance 2"):
        best_weights(runs, [Qrel("q", "a", 1)], norm="none", measure=measure, step=0.5)
    assert best_weights(runs, [Qrel("q", "a", 2)], norm="none", measure=measure, step=0.5) == [1, 0]
