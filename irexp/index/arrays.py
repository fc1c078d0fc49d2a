"""Vectors as plain arrays, as they are written to files.

Shapes: N documents, H embedding dimensions, T tokens of all documents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from irexp.index.vectors import TokenVectors, Vectors

#: Arrays by name.
Arrays = dict[str, NDArray[Any]]


def to_arrays(vectors: Vectors, dtype: np.dtype[Any] | None) -> Arrays:
    """The arrays that hold vectors, by name, with values in `dtype`; None keeps their precision."""
    if isinstance(vectors, np.ndarray):
        return {"vectors": vectors.astype(dtype) if dtype else vectors}
    if isinstance(vectors, TokenVectors):
        values = vectors.vectors_TH.astype(dtype) if dtype else vectors.vectors_TH
        ids = {} if vectors.token_ids_T is None else {"token_ids": vectors.token_ids_T}
        return {"vectors": values, "starts": vectors.starts_N1, **ids}
    values = vectors.data.astype(dtype) if dtype else vectors.data
    return {"data": values, "indices": vectors.indices, "indptr": vectors.indptr, "dim": np.array(vectors.shape[1])}


def as_floats(vectors: Vectors) -> Vectors:
    """The vectors in fp32."""
    if isinstance(vectors, scipy.sparse.csr_array) and vectors.dtype == np.uint16:
        data = vectors.data.view(np.float16).astype(np.float32)
        return scipy.sparse.csr_array((data, vectors.indices, vectors.indptr), shape=vectors.shape)
    return from_arrays(to_arrays(vectors, np.dtype(np.float32)))


def from_arrays(arrays: Arrays) -> Vectors:
    """The vectors that `to_arrays` took apart."""
    if "data" in arrays:
        shape = (len(arrays["indptr"]) - 1, int(arrays["dim"]))
        data = arrays["data"]
        if data.dtype == np.float16:  # not supported by scipy: stored as integers with the same bits until read
            data = data.view(np.uint16)
        return scipy.sparse.csr_array((data, arrays["indices"], arrays["indptr"]), shape=shape)
    if "starts" in arrays:
        return TokenVectors(arrays["vectors"], arrays["starts"], arrays.get("token_ids"))
    return arrays["vectors"]
