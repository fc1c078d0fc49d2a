"""The output of bi-encoders for storage and search: dense vectors, sparse vectors, or one vector per token.

Dense vectors are an array (N, H), sparse vectors scipy's CSR, token vectors a ragged array; the functions here work on
all three. Queries for engines that take texts are lists of texts.

Shapes: N texts, H dimensions, T tokens of all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from irexp.types import Representation as Representation


@dataclass(frozen=True)
class TokenVectors:
    """Ragged token vectors: text n has the rows from `starts_N1[n]` up to `starts_N1[n + 1]`.

    With `token_ids_T` only vectors of the same token are compared, and a token without a match counts as zero.
    """

    vectors_TH: NDArray[Any]
    starts_N1: NDArray[np.int64]
    token_ids_T: NDArray[np.int32] | None = None


Vectors = NDArray[np.float32] | scipy.sparse.csr_array | TokenVectors

#: The input of a search: vectors, or texts.
Queries = Vectors | list[str]


def empty(kind: Representation, dim: int) -> Vectors:
    """Vectors of zero texts."""
    if kind == "tokens":
        return TokenVectors(np.empty((0, dim), dtype=np.float32), np.zeros(1, dtype=np.int64))
    return np.empty((0, dim), dtype=np.float32) if kind == "dense" else scipy.sparse.csr_array((0, dim))


def representation(vectors: Vectors) -> Representation:
    """The kind of vectors."""
    if isinstance(vectors, TokenVectors):
        return "tokens"
    return "dense" if isinstance(vectors, np.ndarray) else "sparse"


def count(vectors: Queries) -> int:
    """N, the number of texts."""
    if isinstance(vectors, list):
        return len(vectors)
    return len(vectors.starts_N1) - 1 if isinstance(vectors, TokenVectors) else int(vectors.shape[0])


def dim(vectors: Vectors) -> int:
    """H, the number of dimensions."""
    return int((vectors.vectors_TH if isinstance(vectors, TokenVectors) else vectors).shape[1])


@overload
def take(vectors: list[str], rows: NDArray[np.int64] | slice) -> list[str]: ...
@overload
def take(vectors: Vectors, rows: NDArray[np.int64] | slice) -> Vectors: ...
def take(vectors: Queries, rows: NDArray[np.int64] | slice) -> Queries:
    """The vectors or texts of the given rows, in their order."""
    if isinstance(vectors, list):
        return vectors[rows] if isinstance(rows, slice) else [vectors[row] for row in rows]
    if not isinstance(vectors, TokenVectors):
        return vectors[rows]
    starts_N1 = vectors.starts_N1
    if isinstance(rows, slice):
        first, last, step = rows.indices(count(vectors))
        assert step == 1
        inside = slice(int(starts_N1[first]), int(starts_N1[max(first, last)]))
        ids = None if vectors.token_ids_T is None else vectors.token_ids_T[inside]
        return TokenVectors(vectors.vectors_TH[inside], starts_N1[first : max(first, last) + 1] - starts_N1[first], ids)
    length_N = starts_N1[rows + 1] - starts_N1[rows]
    new_N1 = np.concatenate([[0], np.cumsum(length_N)])
    token_T = np.arange(new_N1[-1]) + np.repeat(starts_N1[rows] - new_N1[:-1], length_N)
    ids = None if vectors.token_ids_T is None else vectors.token_ids_T[token_T]
    return TokenVectors(vectors.vectors_TH[token_T], new_N1, ids)


def join(parts: Sequence[Vectors]) -> Vectors:
    """Concatenate the vectors of several batches of the same kind."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)  # type: ignore[arg-type]
    if not isinstance(first, TokenVectors):
        return scipy.sparse.csr_array(scipy.sparse.vstack(parts))  # type: ignore[arg-type]
    tokens = [part for part in parts if isinstance(part, TokenVectors)]
    assert len(tokens) == len(parts)
    offsets = np.cumsum([0, *(part.starts_N1[-1] for part in tokens)])
    starts = [part.starts_N1[:-1] + offset for part, offset in zip(tokens, offsets, strict=False)]
    ids = [part.token_ids_T for part in tokens if part.token_ids_T is not None]
    return TokenVectors(
        np.concatenate([part.vectors_TH for part in tokens]),
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate(ids) if ids else None,
    )


def first_faulty(vectors: Queries) -> int | None:
    """The first text whose vector has a value that is not finite; None if all are."""
    if isinstance(vectors, list):
        return None
    if isinstance(vectors, np.ndarray):
        faulty_N = ~np.isfinite(vectors).all(axis=1)
        return int(faulty_N.argmax()) if faulty_N.any() else None
    values = (
        vectors.vectors_TH.min(axis=1, initial=0) + vectors.vectors_TH.max(axis=1, initial=0)
        if isinstance(vectors, TokenVectors)
        else vectors.data
    )
    starts = vectors.starts_N1 if isinstance(vectors, TokenVectors) else vectors.indptr
    faulty_T = ~np.isfinite(values)
    if not faulty_T.any():
        return None
    return int(np.searchsorted(starts, faulty_T.argmax(), side="right")) - 1
