"""Several runs as one, through ranx (Bassani 2022).

    rrf     s(d) = sum over runs of 1 / (k + rank of d)                  Cormack, Clarke and Buettcher 2009
    sum     s(d) = sum over runs of the normalised score                 CombSUM, Fox and Shaw 1994
    mnz     the same times the runs that found d                         CombMNZ, likewise
    wsum    s(d) = sum over runs of weight times normalised score

A run that lacks a document adds nothing to its score, and one that lacks a query nothing to its ranking. Scores are
normalised a query: `min-max` to 0 to 1, `zmuv` to mean 0 and variance 1, or not at all (`none`).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from irexp.evaluation.run_file import in_rank_order
from irexp.types import Qrel, ScoredDoc, UserError

#: Query → document → score.
Scores = dict[str, dict[str, float]]

#: Stands in a run for a query that it does not answer, since ranx wants the same queries in all of them.
_NOTHING = {"\n": 0.0}

#: Measures that weights are tuned by, as they are written everywhere here, and as ranx names them.
_RANX_NAMES = {"nDCG": "ndcg", "RR": "mrr", "AP": "map", "R": "recall", "P": "precision", "Success": "hit_rate"}

METHODS = ("rrf", "sum", "mnz", "wsum")
NORMS = ("min-max", "zmuv", "none")


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
        weights: of wsum, one a run.
    """
    queries = sorted(set(itertools.chain.from_iterable(runs)))
    known: dict[str, dict[str, Any]] = {"rrf": {"k": k}, "wsum": {"weights": list(weights or [])}}
    options = known.get(method)
    parts = [{query: _scores(run.get(query) or _NOTHING, method) for query in queries} for run in runs]
    with _ranx() as ranx:
        run = ranx.fuse(
            [ranx.Run(part) for part in parts],
            norm=None if norm == "none" or method == "rrf" else norm,
            method=method,
            params=options,
        )
    return {
        query: {doc_id: float(score) for doc_id, score in found.items() if doc_id not in _NOTHING}
        for query, found in run.to_dict().items()
    }


def best_weights(runs: Sequence[Scores], qrels: Iterable[Qrel], *, norm: str, measure: str, step: float) -> list[float]:
    """The weights, in steps that add up to one, with which the fused run is best on queries that all runs answer.

    Args:
        runs: on the development queries.
        qrels: their judgements.
        norm: how scores are normalised.
        measure: as ranx names it.
        step: between the weights that are tried.
    """
    relevant: dict[str, dict[str, int]] = {}
    for qrel in qrels:
        if qrel.relevance > 0:
            relevant.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    shared = sorted(query for query in relevant if all(run.get(query) for run in runs))
    if not shared:
        raise ValueError("no judged query is answered by all runs")
    with _ranx() as ranx:
        best = ranx.optimize_fusion(
            ranx.Qrels({query: relevant[query] for query in shared}),
            [ranx.Run({query: run[query] for query in shared}) for run in runs],
            norm=None if norm == "none" else norm,
            method="wsum",
            metric=measure,
            step=step,
            show_progress=False,
        )
    return [round(float(weight), 6) for weight in best["weights"]]


def ranx_measure(name: str) -> str:
    """A measure as ranx names it.

    >>> ranx_measure("nDCG@10")
    'ndcg@10'

    Raises:
        UserError: if it is none that weights are tuned by.
    """
    measure, _, cutoff = name.partition("@")
    if measure not in _RANX_NAMES or (cutoff and not cutoff.isdigit()):
        raise UserError(f"fuse.measure={name}: there are {', '.join(_RANX_NAMES)}, as nDCG@10")
    return _RANX_NAMES[measure] + f"@{cutoff}" * bool(cutoff)


def _scores(ranking: Mapping[str, float], method: str) -> dict[str, float]:
    """The scores that are fused; for ranks their order, which breaks ties as the run does."""
    if method != "rrf":
        return {doc_id: float(score) for doc_id, score in ranking.items()}
    return {doc_id: -float(rank) for rank, doc_id in enumerate(ranking)}


@contextmanager
def _ranx() -> Iterator[Any]:
    """The library, without the warnings of its compiled loops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ranx

        yield ranx
