"""Exact scores for the candidates of a coarse search.

Exact dense engines use this too: they find documents by matrix products and score the results again, so that equal
documents have equal scores whatever the batch.

Shapes: B queries, C candidates per query, N documents, H dimensions, T tokens of all documents, K results per query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irexp.index.compare import compare
from irexp.index.index import Rows, Scores
from irexp.index.top import top
from irexp.index.vectors import TokenVectors, Vectors, count, take

#: Additional candidates, so that the rounding of matrix products does not lose a result.
MARGIN = 16


def rescore(queries: Vectors, row_BC: Rows, documents: Vectors, depth: int) -> tuple[Scores, Rows]:
    """The best `depth` candidates of each query by their exact scores.

    Args:
        queries: dense or token vectors.
        row_BC: the candidates' rows; -1 means none.
        documents: the vectors of all documents, in any precision, usually memory-mapped.
        depth: K.
    """
    score_BK, row_BK = no_results(len(row_BC), depth)
    for number, candidate_C in enumerate(row_BC):
        rows = np.sort(candidate_C[candidate_C >= 0])  # in the order on disk
        if not len(rows):
            continue
        query = take(queries, slice(number, number + 1))
        scores = compare(query, _floats(take(documents, rows)))[0]
        best = top(scores, min(depth, len(rows)))
        score_BK[number, : len(best)], row_BK[number, : len(best)] = scores[best], rows[best]
    return score_BK, np.where(np.isneginf(score_BK), -1, row_BK)


def _floats(vectors: Vectors) -> Vectors:
    if isinstance(vectors, TokenVectors):
        return TokenVectors(np.asarray(vectors.vectors_TH, np.float32), vectors.starts_N1, vectors.token_ids_T)
    assert isinstance(vectors, np.ndarray)
    return np.asarray(vectors, np.float32)


def merge(parts: list[tuple[Scores, Rows]], depth: int) -> tuple[Scores, Rows]:
    """The best results of several engines; rows must be those of the whole collection."""
    score_BM, row_BM = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    place_BK = np.argsort(np.where(row_BM < 0, np.inf, -score_BM), axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(score_BM, place_BK, axis=1), np.take_along_axis(row_BM, place_BK, axis=1)


def no_results(queries: int, depth: int) -> tuple[Scores, Rows]:
    """Scores and rows without results, to be filled or merged."""
    return np.full((queries, depth), -np.inf, np.float32), np.full((queries, depth), -1, np.int64)


def count_candidates(wanted: int | None, depth: int, documents: Vectors) -> int:
    """The number of candidates for exact scores: at least `depth`, at most all documents."""
    return min(max(wanted or 0, depth), count(documents))


def as_rows(place_BK: NDArray[np.int64], order_N: NDArray[np.int64]) -> Rows:
    """Rows from positions in an engine's own order of documents."""
    return np.where(place_BK < 0, -1, order_N[place_BK]) if len(order_N) else np.full_like(place_BK, -1)
