"""Exact search over token vectors that match only those of the same token: an inverted index of vectors.

    s(q, d) = sum over query tokens i of max over document tokens j with the same id as i of q_i . d_j

The maximum over no tokens is zero, and it is at least zero unless the id is negative (the [CLS] vector, which every
document has). A document without any of the query's tokens is not a result. The vectors of a token are contiguous, in
the order of documents; building keeps only a part of them in memory. Source: Gao, Dai and Callan 2021,
arXiv:2104.07186.

Shapes: B queries, N documents, T tokens of all documents, t tokens of a part, P tokens with one id, I different ids,
H dimensions, K results per query.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from irexp.index.compare import products
from irexp.index.growing import GrowingArrays, clear_arrays, read_arrays, remove_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.shards import EncodedDocuments
from irexp.index.top import top
from irexp.index.vectors import Queries, TokenVectors, Vectors, count, dim
from irexp.types import UserError

#: Vectors that are sorted together.
_COPIED = 2**18


class CoilIndex(StreamedIndex):
    """Scores every document that shares a token with the query."""

    takes = "tokens"
    matches_tokens: ClassVar[bool] = True

    def __init__(self) -> None:
        """An empty index."""
        self._folder: Path | None = None
        self._writer: GrowingArrays | None = None
        self._dtype = np.dtype(np.float32)
        self._arrays: dict[str, NDArray[np.generic]] = {}
        self._count = 0

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open or resume a folder of unsorted vectors.

        Raises:
            UserError: if the vectors have no token ids.
        """
        if not encoding.has_token_ids:
            raise UserError("index=coil needs vectors with token ids, which this model does not make; use index=maxsim")
        self._folder, self._dtype = folder, encoding.dtype
        (folder / "unsorted").mkdir(exist_ok=True)
        self._writer = GrowingArrays(folder / "unsorted")
        return self._writer.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, TokenVectors) and vectors.token_ids_T is not None and self._writer is not None
        first = self._writer.finished
        owner_T = np.repeat(np.arange(first, first + count(vectors)), np.diff(vectors.starts_N1))
        arrays = {
            "vectors": vectors.vectors_TH.astype(self._dtype),
            "documents": owner_T.astype(np.int32),
            "ids": vectors.token_ids_T.astype(np.int32),
        }
        self._writer.append(arrays, documents=count(vectors))

    def finish(self) -> None:
        """Sort the vectors by token."""
        assert self._writer is not None and self._folder is not None
        documents = self._writer.finished
        unsorted = read_arrays(self._folder / "unsorted")
        clear_arrays(self._folder)  # left by a killed process, or of fewer documents
        token_I, count_I = _counted(unsorted["ids"])
        sorted_arrays = GrowingArrays(self._folder)
        names = ("vectors", "documents")
        mapped = {name: sorted_arrays.reserve(name, unsorted[name].dtype, unsorted[name].shape) for name in names}
        next_I = np.cumsum(count_I) - count_I  # a counting sort, part by part
        for start in range(0, len(unsorted["ids"]), _COPIED):
            inside = slice(start, start + _COPIED)
            number_t = np.searchsorted(token_I, unsorted["ids"][inside])
            order_t = np.argsort(number_t, kind="stable")
            number_t = number_t[order_t]
            here_I = np.bincount(number_t, minlength=len(token_I))
            place_t = np.arange(len(number_t)) + (next_I - (np.cumsum(here_I) - here_I))[number_t]
            for name in names:
                mapped[name][place_t] = unsorted[name][inside][order_t]
            next_I += here_I
        table: dict[str, NDArray[Any]] = {"tokens": token_I, "counts": count_I, "size": np.array([documents])}
        sorted_arrays.append(table, documents=documents)
        remove_arrays(self._folder / "unsorted")

    def load(self, folder: Path) -> None:
        """Memory-map the vectors."""
        self._arrays = read_arrays(folder, "index=coil")
        self._count = int(self._arrays["size"][0])

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query that share a token with it."""
        assert isinstance(queries, TokenVectors) and queries.token_ids_T is not None
        check_dim(dim(queries), self._arrays["vectors"].shape[1])
        depth = min(depth, len(self))
        score_BK = np.empty((count(queries), depth), np.float32)
        row_BK = np.empty((count(queries), depth), np.int64)
        for number in range(count(queries)):
            inside = slice(int(queries.starts_N1[number]), int(queries.starts_N1[number + 1]))
            score_N = self._score(queries.vectors_TH[inside], queries.token_ids_T[inside])
            row_BK[number] = top(score_N, depth)
            score_BK[number] = score_N[row_BK[number]]
        return score_BK, np.where(np.isneginf(score_BK), -1, row_BK)

    def _score(self, query_QH: NDArray[np.float32], id_Q: NDArray[np.int32]) -> Scores:
        score_N, is_found_N = np.zeros(len(self), np.float32), np.zeros(len(self), np.bool_)
        start_I1 = np.concatenate([[0], np.cumsum(self._arrays["counts"])])
        for vector_H, token_id in zip(query_QH, id_Q.tolist(), strict=True):
            place = int(np.searchsorted(self._arrays["tokens"], token_id))
            if place == len(self._arrays["tokens"]) or self._arrays["tokens"][place] != token_id:
                continue
            inside = slice(int(start_I1[place]), int(start_I1[place + 1]))
            product_P = products(vector_H, np.asarray(self._arrays["vectors"][inside], dtype=np.float32))
            document_P = self._arrays["documents"][inside]
            is_first_P = np.ones(len(document_P), np.bool_)
            np.not_equal(document_P[1:], document_P[:-1], out=is_first_P[1:])
            owner, best = document_P, product_P
            if not is_first_P.all():  # a document has the token several times
                first = np.flatnonzero(is_first_P)
                owner, best = document_P[first], np.maximum.reduceat(product_P, first)
            score_N[owner] += best if token_id < 0 else np.maximum(best, 0)
            is_found_N[owner] = True
        return np.where(is_found_N, score_N, np.float32(-np.inf))


def _counted(id_T: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The distinct ids in order, and their counts."""
    token_I, count_I = np.empty(0, np.int32), np.empty(0, np.int64)
    for start in range(0, len(id_T), _COPIED):
        tokens, counts = np.unique(id_T[start : start + _COPIED], return_counts=True)
        token_I, place = np.unique(np.concatenate([token_I, tokens]), return_inverse=True)
        count_I = np.bincount(place, np.concatenate([count_I, counts])).astype(np.int64)
    return token_I, count_I
