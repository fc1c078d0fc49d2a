"""The inner loops of PLAID, compiled by numba and run without Python's lock.

Shapes: N documents, C centroids, P postings of all centroids, Q tokens of the query, T tokens of all documents,
M candidates, H dimensions, R bytes of a residual.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True, fastmath={"nnan"})
def interact(
    score_CQ: NDArray[np.float32],
    is_used_C: NDArray[np.bool_],
    code_T: NDArray[np.int32],
    start_N1: NDArray[np.int64],
    row_M: NDArray[np.int64],
) -> NDArray[np.float32]:
    """MaxSim of each candidate with every token replaced by its centroid; tokens of unused centroids are ignored."""
    result_M = np.empty(len(row_M), np.float32)
    best_Q = np.empty(score_CQ.shape[1], np.float32)
    for place in range(len(row_M)):
        row = row_M[place]
        best_Q[:] = -np.inf
        for token in range(start_N1[row], start_N1[row + 1]):
            code = code_T[token]
            if is_used_C[code]:
                for q in range(len(best_Q)):
                    if score_CQ[code, q] > best_Q[q]:
                        best_Q[q] = score_CQ[code, q]
        total = np.float32(0)
        for q in range(len(best_Q)):
            if best_Q[q] > -np.inf:
                total += best_Q[q]
        result_M[place] = total
    return result_M


@numba.njit(cache=True, nogil=True)
def decompress(
    residual_TR: NDArray[np.uint8],
    code_T: NDArray[np.int32],
    centroid_CH: NDArray[np.float32],
    value_256xV: NDArray[np.float32],
    start_N1: NDArray[np.int64],
    row_M: NDArray[np.int64],
    is_unit: bool,
    out_TH: NDArray[np.float32],
) -> None:
    """Write the candidates' concatenated vectors to `out_TH`: centroid plus the value of each packed code."""
    per_byte = value_256xV.shape[1]
    place = 0
    for row in row_M:
        for token in range(start_N1[row], start_N1[row + 1]):
            centroid = code_T[token]
            norm = np.float32(0)
            for byte in range(residual_TR.shape[1]):
                packed = residual_TR[token, byte]
                for part in range(per_byte):
                    h = byte * per_byte + part
                    value = centroid_CH[centroid, h] + value_256xV[packed, part]
                    out_TH[place, h] = value
                    norm += value * value
            if is_unit:
                norm = np.float32(1) / max(np.sqrt(norm), np.float32(1e-12))
                for h in range(out_TH.shape[1]):
                    out_TH[place, h] *= norm
            place += 1


@numba.njit(cache=True, nogil=True)
def list_documents(
    code_T: NDArray[np.int32], start_N1: NDArray[np.int64], next_C: NDArray[np.int64], row_P: NDArray[np.int32]
) -> None:
    """Write each document once per centroid to `row_P`, from `next_C`; if `row_P` is empty, only count in `next_C`."""
    last_C = np.full(len(next_C), -1, np.int64)
    for row in range(len(start_N1) - 1):
        for token in range(start_N1[row], start_N1[row + 1]):
            code = code_T[token]
            if last_C[code] != row:
                if len(row_P):
                    row_P[next_C[code]] = row
                next_C[code] += 1
                last_C[code] = row
