"""Exact search over token vectors: MaxSim with every document, or over equal tokens where vectors have token ids.

Shapes: B queries, N documents, T tokens of all documents, H dimensions, K results per query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from irexp.index.compare import compare
from irexp.index.index import Index, Rows, Scores
from irexp.index.top import top
from irexp.index.vectors import TokenVectors, Vectors, count, dim, join, take
from irexp.types import UserError

_ARRAYS = ("vectors_TH", "starts_N1", "token_ids_T")

#: Token vectors that are compared with a query at once: 64 MB of fp32 with 128 dimensions.
_CHUNK = 2**17


class MaxSim(Index):
    """Every document's tokens compared with every query's."""

    takes = "tokens"

    def __init__(self) -> None:
        """An empty index."""
        self._parts: list[TokenVectors] = []

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, TokenVectors)
        self._parts.append(vectors)

    def save(self, folder: Path) -> None:
        """Write the vectors."""
        whole = self._whole()
        for name in _ARRAYS:
            if (array := getattr(whole, name)) is not None:
                np.save(folder / f"{name}.npy", array)

    def load(self, folder: Path) -> None:
        """Map the vectors into memory."""
        if not (folder / f"{_ARRAYS[0]}.npy").is_file():
            raise UserError(f"{folder / _ARRAYS[0]}.npy is not there: this index was not made by index=maxsim")
        arrays = [
            np.load(path, mmap_mode="r") if (path := folder / f"{name}.npy").is_file() else None for name in _ARRAYS
        ]
        assert arrays[0] is not None and arrays[1] is not None
        self._parts = [TokenVectors(arrays[0], arrays[1], arrays[2])]

    def __len__(self) -> int:
        return sum(count(part) for part in self._parts)

    def search(self, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query."""
        whole = self._whole()
        if dim(queries) != dim(whole):
            raise UserError(
                f"the queries have {dim(queries)} dimensions and the index {dim(whole)}: the checkpoint is not the "
                f"one that encoded the documents"
            )
        rows_each = max(1, _CHUNK * len(self) // max(1, len(whole.vectors_TH)))
        chunks = [
            compare(queries, take(whole, slice(start, start + rows_each))) for start in range(0, len(self), rows_each)
        ]
        score_BN = np.concatenate(chunks, axis=1)
        row_BK = np.stack([top(scores, min(depth, len(self))) for scores in score_BN])
        score_BK = np.take_along_axis(score_BN, row_BK, axis=1)
        return score_BK, np.where(np.isneginf(score_BK), -1, row_BK)

    def _whole(self) -> TokenVectors:
        if len(self._parts) > 1:
            whole = join(self._parts)
            assert isinstance(whole, TokenVectors)
            self._parts = [whole]
        return self._parts[0]
