"""The inner loops of the inverted index, compiled by numba and run without Python's lock.

Shapes: X blocks, V vocabulary entries, P postings, n documents of a block, Q terms of a query, K results.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_NEIGHBOURS = 64


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


@numba.njit(cache=True, nogil=True)
def keep_best(
    score_n: NDArray[np.float32],
    first_row: int,
    best_K: NDArray[np.float32],
    row_K: NDArray[np.int64],
    count: int,
) -> int:
    """Add a block's scores to a min-heap of the best results, and set the block to zero.

    Returns:
        The number of results in the heap.
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
def search_blocks(
    block_X3: NDArray[np.int64],
    doc_P: NDArray[np.uint16],
    weight_P: NDArray[Any],
    scale_XV: NDArray[np.float32],
    start_XV: NDArray[np.int64],
    term_Q: NDArray[np.int32],
    value_Q: NDArray[np.float32],
    score_n: NDArray[np.float32],
    best_K: NDArray[np.float32],
    row_K: NDArray[np.int64],
) -> int:
    """Find the best documents of one query in all blocks, if no weight is negative.

    `score_n` is scratch memory, zero before and after; `best_K` and `row_K` are filled as a heap.

    Returns:
        The number of results in the heap.
    """
    first_row, first_posting, count = 0, 0, 0
    for x in range(len(block_X3)):
        documents = block_X3[x, 0]
        for position in range(len(term_Q)):
            term = term_Q[position]
            value = value_Q[position] * scale_XV[x, term]
            for posting in range(first_posting + start_XV[x, term], first_posting + start_XV[x, term + 1]):
                score_n[doc_P[posting]] += value * weight_P[posting]
        count = keep_best(score_n[:documents], first_row, best_K, row_K, count)
        first_row += documents
        first_posting += block_X3[x, 1]
    return count


@numba.njit(cache=True, nogil=True)
def score_block(
    score_n: NDArray[np.float32],
    is_found_n: NDArray[np.bool_],
    doc_P: NDArray[np.uint16],
    weight_P: NDArray[Any],
    start_V1: NDArray[np.int64],
    term_Q: NDArray[np.int32],
    value_Q: NDArray[np.float32],
) -> None:
    """Compute the scores of one block, and which documents share a term with the query; for weights of any sign."""
    for position in range(len(term_Q)):
        term = term_Q[position]
        for posting in range(start_V1[term], start_V1[term + 1]):
            score_n[doc_P[posting]] += value_Q[position] * weight_P[posting]
            is_found_n[doc_P[posting]] = True
