"""Several runs as one.

    rrf     s(d) = sum over runs of 1 / (k + rank of d)                  Cormack, Clarke and Buettcher 2009
    sum     s(d) = sum over runs of the normalised score                 CombSUM, Fox and Shaw 1994
    mnz     the same times the number of runs that found d               CombMNZ, likewise
    wsum    s(d) = sum over runs of weight times normalised score

A run that lacks a document adds nothing to its score, and a run that lacks a query adds nothing to its ranking. Scores
are normalised per query: `min-max` to 0 to 1, `zmuv` to mean 0 and variance 1, or not at all (`none`).

Shapes: R runs, D documents that any of them found for a query, N documents of one run, T weights that are tried.
"""

# mypy: untyped_calls_exclude=ir_measures

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import ir_measures
import numpy as np
from numpy.typing import NDArray

from irexp.evaluation.measures import ENGINE, relevance_by_query
from irexp.evaluation.run_file import in_rank_order
from irexp.types import Qrel, ScoredDoc

#: Query → document → score.
Scores = dict[str, dict[str, float]]

Array = NDArray[np.float64]

METHODS = ("rrf", "sum", "mnz", "wsum")
NORMS = ("min-max", "zmuv", "none")

#: The least range or deviation that scores are divided by.
_LEAST = 1e-9


def by_query(run: Iterable[ScoredDoc]) -> Scores:
    """A run's scores by query, best first."""
    found: Scores = {}
    for query_id, doc_id, score in run:
        found.setdefault(query_id, {})[doc_id] = score
    return {query: {doc_id: scores[doc_id] for doc_id in in_rank_order(scores)} for query, scores in found.items()}


def fuse(runs: Sequence[Scores], *, method: str, norm: str, k: int, weights: Sequence[float] | None) -> Scores:
    """The scores of all documents that a run found.

    Args:
        runs: each in the order of its ranks.
        method: one of `METHODS`.
        norm: one of `NORMS`; rrf looks at ranks alone.
        k: of rrf.
        weights: of wsum, one per run.
    """
    factor_R = np.array(weights if method == "wsum" else [1.0] * len(runs))
    fused = {}
    for query, doc_ids, score_RD, is_found_RD in _matched(runs, norm=norm, k=k if method == "rrf" else None):
        score_D = _weighted(score_RD, factor_R) * (is_found_RD.sum(0) if method == "mnz" else 1)
        fused[query] = dict(zip(doc_ids, score_D.tolist(), strict=True))
    return fused


def best_weights(
    runs: Sequence[Scores], qrels: Iterable[Qrel], *, norm: str, measure: ir_measures.Measure, step: float
) -> list[float]:
    """The weights, in steps that add up to one, with which the fused run is best on queries that all runs answer.

    Args:
        runs: on the development queries.
        qrels: their judgements.
        norm: how scores are normalised.
        measure: what is to be as large as possible; of equal weights those that favour the first runs are taken.
        step: between the weights that are tried.

    Raises:
        ValueError: if no query with a relevant document is answered by all runs.
    """
    judged = relevance_by_query(qrels)
    least = measure["rel"] if "rel" in measure.SUPPORTED_PARAMS else 1
    shared = [query for query in judged if max(judged[query].values()) >= least and all(run.get(query) for run in runs)]
    if not shared:
        raise ValueError(f"no query with a document of relevance {least} or more is answered by all runs")
    engine = ENGINE.evaluator([measure], {query: judged[query] for query in shared})
    matched = list(_matched([{query: run[query] for query in shared} for run in runs], norm=norm, k=None))
    # Documents below the cutoff change nothing, and the engine reads the others in a tenth of the time.
    depth = None if measure.params.get("judged_only") else measure.params.get("cutoff")

    def value(weight_R: Array) -> float:
        run = {}
        for query, doc_ids, score_RD, _ in matched:  # documents are in the order of their ids, which breaks ties
            best = np.argsort(-_weighted(score_RD, weight_R), kind="stable")[:depth].tolist()
            run[query] = {doc_ids[place]: float(len(best) - rank) for rank, place in enumerate(best)}
        value_of = {metric.query_id: metric.value for metric in engine.iter_calc(run)}
        return float(np.mean([value_of[query] for query, *_ in matched]))

    best_R = max(reversed(_grid(len(runs), step)), key=value)
    return [round(weight, 6) for weight in best_R.tolist()]


def _matched(
    runs: Sequence[Scores], *, norm: str, k: int | None
) -> Iterator[tuple[str, list[str], Array, NDArray[np.bool_]]]:
    """Each query, the documents found for it, and what each run says of them: a score, which is 0 if it lacks them.

    The score is the normalised one or, with `k`, the reciprocal rank.
    """
    for query in sorted(set(itertools.chain.from_iterable(runs))):
        rankings = [run.get(query, {}) for run in runs]
        doc_ids = sorted(set(itertools.chain.from_iterable(rankings)))
        column = {doc_id: number for number, doc_id in enumerate(doc_ids)}
        score_RD, is_found_RD = np.zeros((len(runs), len(doc_ids))), np.zeros((len(runs), len(doc_ids)), np.bool_)
        for row, ranking in enumerate(rankings):
            columns = [column[doc_id] for doc_id in ranking]
            score_N = np.array(list(ranking.values()), np.float64)
            score_RD[row, columns] = _normalised(score_N, norm) if k is None else 1 / (k + 1 + np.arange(len(columns)))
            is_found_RD[row, columns] = True
        yield query, doc_ids, score_RD, is_found_RD


def _normalised(score_N: Array, norm: str) -> Array:
    """One run's scores of one query; NaN where an infinite one leaves nothing to divide by."""
    if norm == "none" or not len(score_N):
        return score_N
    with np.errstate(invalid="ignore"):
        if norm == "min-max":  # a single document is its own minimum and gets 0
            origin, unit = score_N.min(), np.ptp(score_N)
        else:
            origin, unit = score_N.mean(), score_N.std()
        normalised_N: Array = (score_N - origin) / np.maximum(unit, _LEAST)
    return normalised_N


def _weighted(score_RD: Array, weight_R: Array) -> Array:
    """The weighted sum, run by run: a product of matrices may round the same sum in two ways, and ties would differ."""
    with np.errstate(invalid="ignore"):
        score_D: Array = (score_RD * weight_R[:, None]).sum(axis=0)
    return score_D


def _grid(runs: int, step: float) -> Array:
    """All weights in whole steps that add up to one, in ascending order, one row each.

    >>> _grid(2, 0.5).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    steps = round(1 / step)
    parts = [part for part in itertools.product(range(steps + 1), repeat=runs) if sum(part) == steps]
    weight_TR = np.array(parts) / steps
    # ranx's grid, whose weights earlier runs have: without those that rounding sums to less, as 0.7 + 0.2 + 0.1
    exact_TR: Array = weight_TR[weight_TR.sum(axis=1) == 1]
    return exact_TR
