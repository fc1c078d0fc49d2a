"""Fusion of several runs into one.

    rrf     s(d) = sum over runs of 1 / (k + rank of d)                  Cormack, Clarke and Buettcher 2009
    sum     s(d) = sum over runs of the normalised score                 CombSUM, Fox and Shaw 1994
    mnz     the same times the number of runs that found d               CombMNZ, Fox and Shaw 1994
    wsum    s(d) = sum over runs of weight times normalised score

A run without a document adds nothing to the document's score, and a run without a query nothing to its ranking. Scores
are normalised per query: to the range 0 to 1 (`min-max`), to mean 0 and variance 1 (`zmuv`), or not at all (`none`).
Equal scores have no range: with `min-max` each is 1, since its document is a best one, and with `zmuv` each is 0.

Shapes: R runs, D documents found by any run for a query, N documents of one run, T candidate weights.
"""

# mypy: untyped_calls_exclude=ir_measures

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence

import ir_measures
import numpy as np
from numpy.typing import NDArray

from irexp.config.measure import counting_from
from irexp.evaluation.measures import ENGINE, relevance_by_query
from irexp.evaluation.run_file import in_rank_order
from irexp.types import Qrel, ScoredDoc, UserError

log = logging.getLogger(__name__)

#: Query → document → score.
ScoresByQuery = dict[str, dict[str, float]]

Array = NDArray[np.float64]

METHODS = ("rrf", "sum", "mnz", "wsum")
NORMS = ("min-max", "zmuv", "none")

#: Lower bound of the deviation that scores are divided by: rounding may give equal scores a tiny one.
_LEAST = 1e-9


def by_query(run: Iterable[ScoredDoc]) -> ScoresByQuery:
    """A run's scores by query, best first."""
    found: ScoresByQuery = {}
    for query_id, doc_id, score in run:
        found.setdefault(query_id, {})[doc_id] = score
    return {query: {doc_id: scores[doc_id] for doc_id in in_rank_order(scores)} for query, scores in found.items()}


def fuse(
    runs: Sequence[ScoresByQuery], *, method: str, norm: str, k: int, weights: Sequence[float] | None
) -> ScoresByQuery:
    """The fused scores of all documents found by any run.

    Args:
        runs: each query's documents in rank order.
        method: one of `METHODS`.
        norm: one of `NORMS`; ignored by rrf, which uses ranks only.
        k: the constant of rrf.
        weights: for wsum, one per run.

    Raises:
        UserError: if scores are to be added and one is not finite.
    """
    factor_R = np.array(weights if method == "wsum" else [1.0] * len(runs))
    fused = {}
    for query, doc_ids, score_RD, is_found_RD in _matched(runs, norm=norm, k=k if method == "rrf" else None):
        score_D = _weighted(score_RD, factor_R) * (is_found_RD.sum(0) if method == "mnz" else 1)
        fused[query] = dict(zip(doc_ids, score_D.tolist(), strict=True))
    return fused


def best_weights(
    runs: Sequence[ScoresByQuery],
    qrels: Iterable[Qrel],
    *,
    norm: str,
    measure: ir_measures.Measure,
    step: float,
    relevance: int | None = None,
    remove_query: bool = False,
) -> list[float]:
    """The weights with which the fused run is best, from a grid of weights that sum to one.

    Args:
        runs: of the development queries; only queries with results in all runs are used.
        qrels: the judgements of the development queries.
        norm: one of `NORMS`.
        measure: is maximised; ties go to the weights that favour the first runs.
        step: the distance between weights of the grid.
        relevance: the smallest relevant grade if the measure is binary and does not name one; None for 1.
        remove_query: whether the document with the query's id is dropped from the fused ranking.

    Raises:
        UserError: if no query with a relevant document has results in all runs, or a score is not finite.
    """
    measure = measure if relevance is None else counting_from(measure, relevance)
    judged = relevance_by_query(qrels)
    least = measure["rel"] if "rel" in measure.SUPPORTED_PARAMS else 1
    shared = [query for query in judged if max(judged[query].values()) >= least and all(run.get(query) for run in runs)]
    if not shared:
        raise UserError(
            f"fuse.weights cannot be tuned: no query with a document of relevance {least} or more has results in all "
            "runs; check dataset.dev, or set the weights"
        )
    relevant = sum(max(judged[query].values()) >= least for query in judged)
    if len(shared) < relevant:
        log.warning(
            "fuse.weights are tuned on the %d of %d development queries for which all runs have results",
            len(shared),
            relevant,
        )
    engine = ENGINE.evaluator([measure], {query: judged[query] for query in shared})
    matched = list(_matched([{query: run[query] for query in shared} for run in runs], norm=norm, k=None))
    # Documents below the cutoff do not change the measure; without them the engine takes a tenth of the time.
    cutoff = None if measure.params.get("judged_only") else measure.params.get("cutoff")
    depth = None if cutoff is None else cutoff + remove_query

    def value(weight_R: Array) -> float:
        run = {}
        for query, doc_ids, score_RD, _ in matched:  # documents are in the order of their ids, which breaks ties
            best = [doc_ids[place] for place in np.argsort(-_weighted(score_RD, weight_R), kind="stable")[:depth]]
            kept = [doc_id for doc_id in best if not (remove_query and doc_id == query)][:cutoff]
            run[query] = {doc_id: float(len(kept) - rank) for rank, doc_id in enumerate(kept)}
        value_of = {metric.query_id: metric.value for metric in engine.iter_calc(run)}
        return float(np.mean([value_of.get(query, 0.0) for query, *_ in matched]))

    best_R = max(reversed(_grid(len(runs), step)), key=value)
    return [round(weight, 6) for weight in best_R.tolist()]


def _matched(
    runs: Sequence[ScoresByQuery], *, norm: str, k: int | None
) -> Iterator[tuple[str, list[str], Array, NDArray[np.bool_]]]:
    """Each query with its documents, each run's scores of them (0 if not found), and whether the run found them.

    Scores are normalised or, with `k`, reciprocal ranks.
    """
    for query in sorted(set(itertools.chain.from_iterable(runs))):
        rankings = [run.get(query, {}) for run in runs]
        doc_ids = sorted(set(itertools.chain.from_iterable(rankings)))
        column = {doc_id: number for number, doc_id in enumerate(doc_ids)}
        score_RD, is_found_RD = np.zeros((len(runs), len(doc_ids))), np.zeros((len(runs), len(doc_ids)), np.bool_)
        for row, ranking in enumerate(rankings):
            columns = [column[doc_id] for doc_id in ranking]
            score_N = np.array(list(ranking.values()), np.float64)
            if k is None and not np.isfinite(score_N).all():
                doc_id, score = next(pair for pair in ranking.items() if not math.isfinite(pair[1]))
                raise UserError(
                    f"run {row + 1} of fuse.runs has the score {score} for query {query!r}, document {doc_id!r}, and "
                    "only finite scores can be added; fuse ranks (fuse.method=rrf), or make the run again"
                )
            score_RD[row, columns] = _normalised(score_N, norm) if k is None else 1 / (k + 1 + np.arange(len(columns)))
            is_found_RD[row, columns] = True
        yield query, doc_ids, score_RD, is_found_RD


def _normalised(score_N: Array, norm: str) -> Array:
    """One run's normalised scores for one query."""
    if norm == "none" or not len(score_N):
        return score_N
    if norm == "min-max":
        origin, unit = score_N.min(), np.ptp(score_N)
        if unit == 0:
            return np.ones_like(score_N)
    else:
        origin, unit = score_N.mean(), np.maximum(score_N.std(), _LEAST)
    normalised_N: Array = (score_N - origin) / unit
    return normalised_N


def _weighted(score_RD: Array, weight_R: Array) -> Array:
    """The weighted sum of scores; a matrix product may round equal sums differently, which would break ties."""
    score_D: Array = (score_RD * weight_R[:, None]).sum(axis=0)
    return score_D


def _grid(runs: int, step: float) -> Array:
    """All weights that are multiples of the step and sum to one, in ascending order, one row each.

    >>> _grid(2, 0.5).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    steps = round(1 / step)
    parts = [part for part in itertools.product(range(steps + 1), repeat=runs) if sum(part) == steps]
    weight_TR: Array = np.array(parts) / steps
    return weight_TR
