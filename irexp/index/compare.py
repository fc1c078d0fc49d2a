"""The exact score of every query with every document: what engines are measured against, and what re-ranking uses.

    dense, sparse:    s(q, d) = q . d
    tokens:           s(q, d) = sum over query tokens i of max over document tokens j of q_i . d_j
    tokens with ids:  the max goes over the document tokens j with the same id as i; it is zero if there is none, and
                      not below zero unless that id is (COIL, Gao, Dai and Callan 2021, arXiv:2104.07186)

Shapes: B queries, N documents, H dimensions, T tokens of all documents, Q tokens of one query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irexp.index.vectors import TokenVectors, Vectors, count

Scores = NDArray[np.float32]


def compare(query: Vectors, document: Vectors) -> Scores:
    """score_BN."""
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
    product = query @ document.T  # type: ignore[union-attr]
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray(), dtype=np.float32)


def _maxsim(query_QH: NDArray[np.float32], document: TokenVectors) -> Scores:
    """score_N; a document without a vector has -inf."""
    similarity_TQ = np.asarray(document.vectors_TH, dtype=np.float32) @ query_QH.T
    score_N = np.full(count(document), -np.inf, dtype=np.float32)
    present_N = np.diff(document.starts_N1) > 0
    if present_N.any():
        starts = document.starts_N1[:-1][present_N]
        score_N[present_N] = np.maximum.reduceat(similarity_TQ, starts, axis=0).sum(axis=1)
    return score_N


def _matching_maxsim(query_QH: NDArray[np.float32], ids_Q: NDArray[np.int32], document: TokenVectors) -> Scores:
    """score_N over equal tokens."""
    assert document.token_ids_T is not None
    score_N = np.zeros(count(document), dtype=np.float32)
    owner_T = np.repeat(np.arange(count(document)), np.diff(document.starts_N1))
    for vector_H, token_id in zip(query_QH, ids_Q, strict=True):
        (matching,) = np.nonzero(document.token_ids_T == token_id)
        best_N = np.full_like(score_N, 0.0 if token_id >= 0 else -np.inf)
        np.maximum.at(best_N, owner_T[matching], np.asarray(document.vectors_TH[matching], np.float32) @ vector_H)
        score_N += np.where(np.isneginf(best_N), 0.0, best_N)
    return score_N
