"""Exact search over token vectors that are compared only with those of the same token: an inverted index of vectors.

    s(q, d) = sum over query tokens i of max over document tokens j with the same id as i of q_i . d_j

A maximum over nothing is zero, and it is not below zero unless the id is (the [CLS] vector, which every document has).
A document without any token of the query's is no result.
The vectors of a token stand end to end in the order of documents. Source: Gao, Dai and Callan 2021, arXiv:2104.07186.

Shapes: B queries, N documents, T tokens of all documents, P of them with one id, I different ids, H dimensions, K
results per query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irexp.index.growing import GrowingArrays, read_arrays, remove_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.shards import Encoding
from irexp.index.top import top
from irexp.index.vectors import TokenVectors, Vectors, count, dim
from irexp.types import UserError

#: Vectors that are put in order at once.
_COPIED = 2**18


class CoilIndex(StreamedIndex):
    """Every document that has a token in common with the query."""

    takes = "tokens"

    def __init__(self) -> None:
        """An empty index."""
        self._folder: Path | None = None
        self._writer: GrowingArrays | None = None
        self._dtype = np.dtype(np.float32)
        self._arrays: dict[str, NDArray[np.generic]] = {}
        self._count = 0

    def begin(self, encoding: Encoding, folder: Path) -> int:
        """Vectors are first kept in the order in which they come."""
        if not encoding.has_token_ids:
            raise UserError("index=coil is for vectors that say which token they are; for others take index=maxsim")
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
        """Put vectors in the order of their tokens."""
        assert self._writer is not None and self._folder is not None
        documents = self._writer.finished
        unsorted = read_arrays(self._folder / "unsorted")
        for path in self._folder.glob("*.*"):  # of a kill while this was written
            path.unlink()
        order_T = np.argsort(unsorted["ids"], kind="stable")
        ids, starts = np.unique(unsorted["ids"], return_index=False, return_counts=True)
        sorted_arrays = GrowingArrays(self._folder)
        for start in range(0, max(1, len(order_T)), _COPIED):
            rows = order_T[start : start + _COPIED]
            arrays = {name: unsorted[name][rows] for name in ("vectors", "documents")}
            sorted_arrays.append(arrays, documents=0)
        table = {"tokens": ids, "counts": starts.astype(np.int64), "size": np.array([documents])}
        sorted_arrays.append(table, documents=documents)
        remove_arrays(self._folder / "unsorted")

    def load(self, folder: Path) -> None:
        """Map the vectors into memory."""
        self._arrays = read_arrays(folder, "index=coil")
        self._count = int(self._arrays["size"][0])

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query; one without a common token is none."""
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
            product_P = np.asarray(self._arrays["vectors"][inside], dtype=np.float32) @ vector_H
            document_P = self._arrays["documents"][inside]
            (first,) = np.nonzero(np.diff(document_P, prepend=-1))
            best = np.maximum.reduceat(product_P, first)
            score_N[document_P[first]] += best if token_id < 0 else np.maximum(best, 0)
            is_found_N[document_P[first]] = True
        return np.where(is_found_N, score_N, np.float32(-np.inf))
