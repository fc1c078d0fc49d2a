"""The inner loops of the inverted index, compiled by numba and run without Python's lock.

Shapes: V vocabulary entries, P postings of a block, n documents of a block, K results.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_NEIGHBOURS = 64


@numba.njit(cache=True, nogil=True)
def accumulate(
    score_n: NDArray[np.float32],
    doc_P: NDArray[np.uint16],
    weight_P: NDArray[Any],
    start_V1: NDArray[np.int64],
    term_Q: NDArray[np.int32],
    value_Q: NDArray[np.float32],
) -> None:
    """Add the postings of a query's terms to the scores of a block, term by term."""
    for position in range(len(term_Q)):
        term, value = term_Q[position], value_Q[position]
        for posting in range(start_V1[term], start_V1[term + 1]):
            score_n[doc_P[posting]] += value * weight_P[posting]


@numba.njit(cache=True, nogil=True)
def mark(
    is_found_n: NDArray[np.bool_], doc_P: NDArray[np.uint16], start_V1: NDArray[np.int64], term_Q: NDArray[np.int32]
) -> None:
    """Say which documents share a term with the query; needed only where weights may be negative."""
    for term in term_Q:
        for posting in range(start_V1[term], start_V1[term + 1]):
            is_found_n[doc_P[posting]] = True


@numba.njit(cache=True, nogil=True)
def keep_best(
    score_n: NDArray[np.float32],
    first_row: int,
    best_K: NDArray[np.float32],
    row_K: NDArray[np.int64],
    count: int,
) -> int:
    """Put a block's scores above the smallest kept one into a heap (smallest first), and clear the block.

    Returns:
        How many results the heap holds.
    """
    depth = len(best_K)
    for start in range(0, len(score_n), _NEIGHBOURS):
        end = min(start + _NEIGHBOURS, len(score_n))
        highest = score_n[start]
        for place in range(start + 1, end):
            highest = max(highest, score_n[place])
        if highest > 0 and (count < depth or highest > best_K[0]):
            for place in range(start, end):
                score = score_n[place]
                if score <= 0:
                    continue
                if count < depth:
                    best_K[count], row_K[count] = score, first_row + place
                    count += 1
                    _rise(best_K, row_K, count - 1)
                elif score > best_K[0]:
                    best_K[0], row_K[0] = score, first_row + place
                    _sink(best_K, row_K, count)
        score_n[start:end] = 0
    return count


@numba.njit(cache=True, nogil=True)
def _rise(best_K: NDArray[np.float32], row_K: NDArray[np.int64], place: int) -> None:
    while place > 0:
        above = (place - 1) // 2
        if best_K[above] <= best_K[place]:
            return
        best_K[above], best_K[place] = best_K[place], best_K[above]
        row_K[above], row_K[place] = row_K[place], row_K[above]
        place = above


@numba.njit(cache=True, nogil=True)
def _sink(best_K: NDArray[np.float32], row_K: NDArray[np.int64], count: int) -> None:
    place = 0
    while 2 * place + 1 < count:
        below = 2 * place + 1
        if below + 1 < count and best_K[below + 1] < best_K[below]:
            below += 1
        if best_K[place] <= best_K[below]:
            return
        best_K[below], best_K[place] = best_K[place], best_K[below]
        row_K[below], row_K[place] = row_K[place], row_K[below]
        place = below
