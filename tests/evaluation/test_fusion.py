"""Fusion against its formulas, and what it does where a run lacks something."""

from __future__ import annotations

import pytest

from irexp.evaluation.fusion import Scores, best_weights, by_query, fuse
from irexp.types import Qrel, ScoredDoc

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


@pytest.mark.parametrize("method", ["rrf", "sum", "mnz", "wsum"])
@pytest.mark.parametrize("norm", ["min-max", "zmuv", "none"])
def test_a_fusion_is_its_formula(method: str, norm: str) -> None:
    """Also for queries that one of the runs does not answer."""
    found = fuse([A, B], method=method, norm=norm, k=60, weights=[0.3, 0.7])
    expected = naive(method, norm, [0.3, 0.7])
    assert found.keys() == expected.keys()
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, abs=1e-6)


def test_ranks_are_those_of_a_run_whatever_its_file_says() -> None:
    """Equal scores rank by document id."""
    run = by_query([ScoredDoc("q", "b", 1.0), ScoredDoc("q", "a", 1.0), ScoredDoc("q", "c", 2.0)])
    assert list(run["q"]) == ["c", "a", "b"]
    fused = fuse([run, run], method="rrf", norm="none", k=1, weights=None)["q"]
    assert fused == pytest.approx({"c": 2 / 2, "a": 2 / 3, "b": 2 / 4})


def test_weights_are_found_that_favour_the_better_run() -> None:
    """The second run alone is right, and loses if both count the same; an unjudged query says so."""
    good = {f"q{n}": {"x": 0.2, "y": 1.0, "z": 0.0} for n in range(5)}
    bad = {f"q{n}": {"x": 1.0, "y": 0.1, "z": 0.0} for n in range(5)}
    qrels = [Qrel(f"q{n}", "y", 1) for n in range(5)]
    weights = best_weights([bad, good], qrels, norm="none", measure="mrr", step=0.25)
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > weights[0]
    with pytest.raises(ValueError, match="no judged query"):
        best_weights([bad, good], [], norm="none", measure="mrr", step=0.25)
