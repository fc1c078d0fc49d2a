"""The inner loops of MUVERA, compiled by numba.

Shapes: N texts, T tokens of all texts, A buckets, P dimensions of a block.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def sum_blocks(
    block_NAP: NDArray[np.float32],
    short_TP: NDArray[np.float32],
    bucket_T: NDArray[np.int64],
    start_N1: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Add each token to the block of its bucket.

    Returns:
        count_NA: the number of tokens in each block.
    """
    count_NA = np.zeros(block_NAP.shape[:2], np.float32)
    for text in range(len(block_NAP)):
        for token in range(start_N1[text], start_N1[text + 1]):
            bucket = bucket_T[token]
            count_NA[text, bucket] += 1
            for p in range(short_TP.shape[1]):
                block_NAP[text, bucket, p] += short_TP[token, p]
    return count_NA


@numba.njit(cache=True, nogil=True)
def fill_empty(
    block_NAP: NDArray[np.float32],
    short_TP: NDArray[np.float32],
    bucket_T: NDArray[np.int64],
    start_N1: NDArray[np.int64],
    count_NA: NDArray[np.float32],
) -> None:
    """Fill each empty block with the first token whose bucket differs in the fewest signs."""
    for text in range(len(block_NAP)):
        if start_N1[text] == start_N1[text + 1]:
            continue
        for bucket in range(block_NAP.shape[1]):
            if count_NA[text, bucket] > 0:
                continue
            nearest, fewest = start_N1[text], 64
            for token in range(start_N1[text], start_N1[text + 1]):
                differing, rest = 0, bucket ^ bucket_T[token]
                while rest:
                    differing += rest & 1
                    rest >>= 1
                if differing < fewest:
                    nearest, fewest = token, differing
            for p in range(short_TP.shape[1]):
                block_NAP[text, bucket, p] = short_TP[nearest, p]
