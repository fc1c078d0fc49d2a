"""Exact search over sparse vectors: an inverted index, whose posting lists are multiplied with the query's weights.

Shapes: B queries, N documents, V vocabulary entries, K results per query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse

from irexp.index.index import Index, Rows, Scores
from irexp.index.top import top
from irexp.index.vectors import Vectors
from irexp.types import UserError

_ARRAYS = ("data", "indices", "indptr")


class SparseIndex(Index):
    """Every document that shares a term with the query; one without is no result."""

    takes = "sparse"

    def __init__(self) -> None:
        """An empty index; its terms are those of the first vectors."""
        self._parts: list[scipy.sparse.csr_array] = []
        self._postings_VN: scipy.sparse.csr_array | None = None

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, scipy.sparse.csr_array)
        self._parts.append(vectors)
        self._postings_VN = None

    def save(self, folder: Path) -> None:
        """Write the posting lists."""
        postings_VN = self._postings()
        for name in _ARRAYS:
            np.save(folder / f"postings.{name}.npy", getattr(postings_VN, name))
        np.save(folder / "postings.shape.npy", np.array(postings_VN.shape))

    def load(self, folder: Path) -> None:
        """Map the posting lists into memory."""
        paths = [folder / f"postings.{name}.npy" for name in (*_ARRAYS, "shape")]
        if missing := [path for path in paths if not path.is_file()]:
            raise UserError(f"{missing[0]} is not there: this index was not made by index=sparse")
        data, indices, indptr, shape = (np.load(path, mmap_mode="r") for path in paths)
        self._postings_VN = scipy.sparse.csr_array((data, indices, indptr), shape=tuple(shape.tolist()))

    def __len__(self) -> int:
        if self._postings_VN is not None:
            return int(self._postings_VN.shape[1])
        return sum(part.shape[0] for part in self._parts)

    def search(self, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query."""
        postings_VN = self._postings()
        assert isinstance(queries, scipy.sparse.csr_array)
        if queries.shape[1] != postings_VN.shape[0]:
            raise UserError(
                f"the queries have {queries.shape[1]} terms and the index {postings_VN.shape[0]}: the checkpoint is "
                f"not the one that encoded the documents"
            )
        found_BN = (queries @ postings_VN).tocsr()
        count = min(depth, len(self))
        score_BK = np.full((queries.shape[0], count), -np.inf, dtype=np.float32)
        row_BK = np.full((queries.shape[0], count), -1, dtype=np.int64)
        for query in range(queries.shape[0]):
            inside = slice(found_BN.indptr[query], found_BN.indptr[query + 1])
            scores, rows = found_BN.data[inside], found_BN.indices[inside]
            best = top(scores, count)
            score_BK[query, : len(best)], row_BK[query, : len(best)] = scores[best], rows[best]
        return score_BK, row_BK

    def _postings(self) -> scipy.sparse.csr_array:
        if self._postings_VN is None:
            self._postings_VN = scipy.sparse.vstack(self._parts, format="csr").T.tocsr()
        return self._postings_VN
