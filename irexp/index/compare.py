"""Exact scores of every query with every document: the reference for engines, also used for re-ranking.

    dense, sparse:    s(q, d) = q . d
    tokens:           s(q, d) = sum over query tokens i of max over document tokens j of q_i . d_j
    tokens with ids:  the max is over the document tokens j with the same id as i; it is zero if there are none, and at
                      least zero unless that id is negative (COIL, Gao, Dai and Callan 2021, arXiv:2104.07186)

The bits of a score do not depend on what else is in the batch, except for MaxSim: matrix products, whose last bits
depend on their size, are about ten times as fast as sums in a fixed order.

Shapes: B queries, N documents, H dimensions, T tokens of all documents, P tokens with one id, Q tokens of
one query.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from irexp.index.index import Scores
from irexp.index.vectors import TokenVectors, Vectors, count

#: Dimensions per einsum, which would split longer vectors depending on their number.
_SUMMED = 8192


def compare(query: Vectors, document: Vectors) -> Scores:
    """score_BN: the exact score of every query with every document."""
    if isinstance(query, TokenVectors):
        assert isinstance(document, TokenVectors)
        score_BN = np.zeros((count(query), count(document)), dtype=np.float32)
        if not count(document):
            return score_BN
        for row in range(count(query)):
            tokens = slice(int(query.starts_N1[row]), int(query.starts_N1[row + 1]))
            if query.token_ids_T is None:
                score_BN[row] = _maxsim(query.vectors_TH[tokens], document)
            else:
                score_BN[row] = _matching_maxsim(query.vectors_TH[tokens], query.token_ids_T[tokens], document)
        return score_BN
    if isinstance(query, np.ndarray):
        assert isinstance(document, np.ndarray)
        return np.array([products(query_H, document) for query_H in query], np.float32).reshape(
            len(query), len(document)
        )
    return np.asarray((query @ document.T).toarray(), dtype=np.float32)  # type: ignore[union-attr]


def is_comparable(query: Vectors, document: Vectors) -> NDArray[np.bool_]:
    """is_comparable_BN: whether a pair shares a term, or a token id if the vectors have any; else always true."""
    pairs = count(query), count(document)
    if isinstance(query, np.ndarray) or (isinstance(query, TokenVectors) and query.token_ids_T is None):
        return np.ones(pairs, np.bool_)
    if isinstance(query, TokenVectors):
        assert isinstance(document, TokenVectors) and query.token_ids_T is not None
        assert document.token_ids_T is not None
        is_comparable_BN = np.zeros(pairs, np.bool_)
        owner_T = np.repeat(np.arange(count(document)), np.diff(document.starts_N1))
        for row, (first, last) in enumerate(pairwise(query.starts_N1.tolist())):
            is_comparable_BN[row, owner_T[np.isin(document.token_ids_T, query.token_ids_T[first:last])]] = True
        return is_comparable_BN
    assert not isinstance(document, np.ndarray | TokenVectors)
    has_term_BV, has_term_NV = (vectors.astype(np.bool_).astype(np.float32) for vectors in (query, document))
    return np.asarray((has_term_BV @ has_term_NV.T).toarray() > 0)


def products(query_H: NDArray[np.float32], vector_NH: NDArray[np.float32]) -> Scores:
    """score_N, each summed in the same order for any N: by einsum's own loop rather than BLAS."""
    query_H, vector_NH = np.ascontiguousarray(query_H), np.ascontiguousarray(vector_NH)
    score_N = np.zeros(len(vector_NH), np.float32)
    for start in range(0, len(query_H), _SUMMED):
        inside = slice(start, start + _SUMMED)
        score_N += np.einsum("nh,h->n", vector_NH[:, inside], query_H[inside])
    return score_N


def _maxsim(query_QH: NDArray[np.float32], document: TokenVectors) -> Scores:
    """score_N; -inf for a document without vectors."""
    similarity_TQ = np.asarray(document.vectors_TH, dtype=np.float32) @ query_QH.T
    score_N = np.full(count(document), -np.inf, dtype=np.float32)
    present_N = np.diff(document.starts_N1) > 0
    if present_N.any():
        starts = document.starts_N1[:-1][present_N]
        score_N[present_N] = np.maximum.reduceat(similarity_TQ, starts, axis=0).sum(axis=1)
    return score_N


def _matching_maxsim(query_QH: NDArray[np.float32], ids_Q: NDArray[np.int32], document: TokenVectors) -> Scores:
    """score_N, with maxima over equal tokens only."""
    assert document.token_ids_T is not None
    score_N = np.zeros(count(document), dtype=np.float32)
    owner_T = np.repeat(np.arange(count(document)), np.diff(document.starts_N1))
    for vector_H, token_id in zip(query_QH, ids_Q, strict=True):
        (matching,) = np.nonzero(document.token_ids_T == token_id)
        best_N = np.full_like(score_N, 0.0 if token_id >= 0 else -np.inf)
        product_P = products(vector_H, np.asarray(document.vectors_TH[matching], np.float32))
        np.maximum.at(best_N, owner_T[matching], product_P)
        score_N += np.where(np.isneginf(best_N), 0.0, best_N)
    return score_N
