"""Fusion against its formulas and against ranx, also where a run lacks a query or a document."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest

from irexp.evaluation.fusion import METHODS, NORMS, ScoresByQuery, _grid, best_weights, by_query, fuse
from irexp.evaluation.measures import parse_measures
from irexp.types import Qrel, ScoredDoc, UserError

#: Runs and their fusions by ranx 0.3.21, written by tests/data/make_fusion.py.
RANX = json.loads((Path(__file__).parents[1] / "data" / "fusion.json").read_text(encoding="utf8"))

A: ScoresByQuery = {"q1": {"a": 3.0, "b": 2.0, "c": 0.5}, "q2": {"a": 1.0, "d": 0.25}}
B: ScoresByQuery = {"q1": {"c": 9.0, "a": 7.0, "e": 1.0}, "q3": {"f": 2.0, "a": 1.0}}


def naive(method: str, norm: str, weights: list[float]) -> ScoresByQuery:
    """The formulas of the module's docstring, in loops."""
    fused: ScoresByQuery = {}
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
    """Every method and norm equals the naive formula, also for queries that one run lacks."""
    found = fuse([A, B], method=method, norm=norm, k=60, weights=[0.3, 0.7])
    expected = naive(method, norm, [0.3, 0.7])
    assert found.keys() == expected.keys()
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, abs=1e-12)


def test_ranks_follow_scores_and_then_document_ids() -> None:
    """The order of a run's lines does not affect ranks; ties are broken by document id."""
    run = by_query([ScoredDoc("q", "b", 1.0), ScoredDoc("q", "a", 1.0), ScoredDoc("q", "c", 2.0)])
    assert list(run["q"]) == ["c", "a", "b"]
    fused = fuse([run, run], method="rrf", norm="none", k=1, weights=None)["q"]
    assert fused == pytest.approx({"c": 2 / 2, "a": 2 / 3, "b": 2 / 4})


@pytest.mark.parametrize("combination", RANX["fused"])
def test_a_fusion_equals_that_of_ranx(combination: str) -> None:
    """Scores and order equal ranx's for three runs, one of which lacks a query."""
    method, norm = combination.split()
    found = fuse(RANX["runs"], method=method, norm=norm, k=60, weights=RANX["weights"])
    expected = RANX["fused"][combination]
    assert found.keys() == expected.keys() and len(found) == 3
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, rel=1e-12, abs=1e-12)
        assert sorted(found[query], key=found[query].__getitem__) == sorted(scores, key=scores.__getitem__)


def test_every_method_and_norm_is_compared_with_ranx() -> None:
    """No combination is missing from the data; rrf does not depend on the norm and appears once."""
    assert len(RANX["fused"]) == 1 + (len(METHODS) - 1) * len(NORMS)
    assert {combination.split()[0] for combination in RANX["fused"]} == set(METHODS)


@pytest.mark.parametrize("combination", RANX["tuned"])
def test_tuned_weights_equal_those_of_ranx(combination: str) -> None:
    """For measures with and without a cutoff and for two and three runs the weights are ranx's, also among ties."""
    name, norm, step, number = combination.split()
    (measure,) = parse_measures([name])
    qrels = [Qrel(query, doc_id, value) for query, judged in RANX["qrels"].items() for doc_id, value in judged.items()]
    runs = RANX["tuned_runs"][: int(number)]
    assert best_weights(runs, qrels, norm=norm, measure=measure, step=float(step)) == RANX["tuned"][combination]


def test_equal_scores_of_a_run_are_best_scores() -> None:
    """With min-max a run's only document gets 1, as the best of several does, and so more than one not found."""
    runs: list[ScoresByQuery] = [{"q": {"a": 2.0}}, {"q": {"b": 0.5, "c": 0.5}}, {"q": {"d": 9.0, "e": 7.0}}]
    fused = fuse(runs, method="sum", norm="min-max", k=60, weights=None)["q"]
    assert fused == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 0.0}
    assert fuse(runs[:1], method="sum", norm="zmuv", k=60, weights=None) == {"q": {"a": 0.0}}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("score", [math.inf, -math.inf])
def test_an_infinite_score_is_refused_where_scores_are_added(norm: str, score: float) -> None:
    """No sum of it means anything; ranks do not need it, and the error names them, the run and the document."""
    run: ScoresByQuery = {"q": {"b": score, "a": 1.0}}
    expected = rf"run 2 of fuse\.runs has the score {score} for query 'q', document 'b'.*fuse\.method=rrf"
    for method in ("sum", "mnz", "wsum"):
        with pytest.raises(UserError, match=expected):
            fuse([A, run], method=method, norm=norm, k=60, weights=[0.5, 0.5])
    with pytest.raises(UserError, match=expected):
        (measure,) = parse_measures(["RR"])
        best_weights([{"q": {"a": 1.0}}, run], [Qrel("q", "a", 1)], norm=norm, measure=measure, step=0.5)
    ranks = fuse([{"q": {"a": 2.0}}, run], method="rrf", norm=norm, k=60, weights=None)["q"]
    assert ranks == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 61})


def test_tuned_weights_favour_the_better_run() -> None:
    """Only the second run is right and needs the larger weight; queries without judgements are an error."""
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


@pytest.mark.parametrize(("number", "step"), [(2, 0.05), (3, 0.1), (3, 0.05), (4, 0.1)])
def test_every_point_of_the_grid_is_tried(number: int, step: float) -> None:
    """Also weights whose rounded sum is not 1, such as 0.7, 0.2 and 0.1."""
    steps = round(1 / step)
    parts = [part for part in itertools.product(range(steps + 1), repeat=number) if sum(part) == steps]
    assert len(parts) == math.comb(steps + number - 1, number - 1)
    assert _grid(number, step).tolist() == [[part / steps for part in point] for point in parts]


def test_the_best_weights_are_found_although_their_rounded_sum_is_not_one() -> None:
    """Only where no weight is above 0.75, 0.25 and 0.15 is x first: above these y, z and u are."""
    limits = {"y": (0.25, -0.75, -0.75), "z": (-0.25, 0.75, -0.25), "u": (-0.15, -0.15, 0.85)}
    runs: list[ScoresByQuery] = [
        {"q": {"x": 0.0, **{doc_id: own[number] for doc_id, own in limits.items()}}} for number in range(3)
    ]
    (measure,) = parse_measures(["RR"])
    tuned = best_weights(runs, [Qrel("q", "x", 1)], norm="none", measure=measure, step=0.1)
    assert tuned == [0.7, 0.2, 0.1]


def test_weights_of_few_queries_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Only queries that all runs answer can say how they go together."""
    (measure,) = parse_measures(["RR"])
    qrels = [Qrel(f"q{n}", "y", 1) for n in range(5)]
    whole = {f"q{n}": {"y": 1.0, "z": 0.0} for n in range(5)}
    best_weights([whole, whole], qrels, norm="none", measure=measure, step=0.5)
    assert "fuse.weights" not in caplog.text
    best_weights([whole, {"q0": {"y": 1.0}}], qrels, norm="none", measure=measure, step=0.5)
    assert "fuse.weights are tuned on the 1 of 5 development queries for which all runs have results" in caplog.text


def test_a_cutoff_over_judged_documents_does_not_cut_the_ranking() -> None:
    """With judged_only, the unjudged first document must not use up the cutoff of 1, so the second one decides."""
    bad, good = {"q": {"u": 3.0, "x": 1.0, "y": 0.0}}, {"q": {"u": 3.0, "y": 1.0, "x": 0.0}}
    (measure,) = parse_measures(["nDCG(judged_only=True)@1"])
    weights = best_weights([bad, good], [Qrel("q", "y", 1), Qrel("q", "x", 0)], norm="none", measure=measure, step=0.25)
    assert weights[1] > weights[0]


def test_tuning_needs_a_query_with_a_document_of_the_measures_grade() -> None:
    """P(rel=2) is 0 for every weight if no document has relevance 2, so nothing could be tuned."""
    runs: list[ScoresByQuery] = [{"q": {"a": 2.0, "b": 1.0}}] * 2
    (measure,) = parse_measures(["P(rel=2)@1"])
    with pytest.raises(ValueError, match="no query with a document of relevance 2"):
        best_weights(runs, [Qrel("q", "a", 1)], norm="none", measure=measure, step=0.5)
    assert best_weights(runs, [Qrel("q", "a", 2)], norm="none", measure=measure, step=0.5) == [1, 0]


def test_weights_are_tuned_by_the_collections_conventions() -> None:
    """Only the grade and the rankings that the collection counts decide, as in the evaluation of the fused run."""
    first: ScoresByQuery = {"q": {"q": 3.0, "x": 2.0, "y": 1.0}}
    second: ScoresByQuery = {"q": {"y": 3.0, "x": 2.0, "q": 1.0}}
    (measure,) = parse_measures(["RR@1"])

    def weights(*qrels: Qrel, relevance: int | None = None, remove_query: bool = False) -> list[float]:
        runs = [first, second]
        return best_weights(
            runs, qrels, norm="none", measure=measure, step=1, relevance=relevance, remove_query=remove_query
        )

    graded = [Qrel("q", "q", 1), Qrel("q", "y", 2)]
    assert weights(*graded) == [1, 0]
    assert weights(*graded, relevance=2) == [0, 1]
    assert weights(Qrel("q", "q", 1), Qrel("q", "x", 1), remove_query=True) == [1, 0]
    assert weights(Qrel("q", "q", 1), Qrel("q", "y", 1), remove_query=True) == [0, 1]
