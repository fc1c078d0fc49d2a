"""Pruning of sparse vectors by the number of terms or by weight."""

import numpy as np
import scipy.sparse


def prune(vectors: scipy.sparse.csr_array, terms: int | None, threshold: float) -> scipy.sparse.csr_array:
    """Keep each vector's `terms` largest absolute weights of at least `threshold`; the first ones of ties.

    >>> prune(scipy.sparse.csr_array([[3.0, 1.0, 2.0]]), 2, 0.0).toarray().tolist()
    [[3.0, 0.0, 2.0]]
    """
    is_kept_T = np.abs(vectors.data) >= threshold
    is_kept_T &= vectors.data != 0
    if terms is not None:
        owner_T = np.repeat(np.arange(vectors.shape[0]), np.diff(vectors.indptr))
        order_T = np.lexsort((vectors.indices, -np.abs(vectors.data), owner_T))
        rank_T = np.empty_like(order_T)
        rank_T[order_T] = np.arange(len(order_T)) - vectors.indptr[owner_T[order_T]]
        is_kept_T &= rank_T < terms
    if is_kept_T.all():
        return vectors
    before_N1 = np.concatenate([[0], np.cumsum(is_kept_T)])[vectors.indptr]
    kept = (vectors.data[is_kept_T], vectors.indices[is_kept_T], before_N1)
    return scipy.sparse.csr_array(kept, shape=vectors.shape)
