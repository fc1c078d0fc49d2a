"""The naive engine: every query is compared with every document, in memory. The reference for other engines.

Shapes: B queries, N documents, K results per query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from irexp.index.compare import compare, is_comparable
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.rescore import MARGIN, merge, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.top import top
from irexp.index.vectors import Queries, Representation, Vectors, count, dim, join


class Exact(StreamedIndex):
    """Exact search over vectors of any kind, for validation and tests."""

    def __init__(self, takes: Representation) -> None:
        """An empty index."""
        self.takes = takes
        self._parts: list[Vectors] = []

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Nothing is learned or resumed."""
        return 0

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        self._parts.append(vectors)

    def finish(self) -> None:
        """Nothing is written."""

    def load(self, folder: Path) -> None:
        """Use the vectors of an encoding's folder."""
        self._parts = list(EncodedDocuments(folder).batches())

    def __len__(self) -> int:
        return sum(count(part) for part in self._parts)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those that are comparable with it."""
        assert not isinstance(queries, list)
        document = self._whole()
        check_dim(dim(queries), dim(document))
        if isinstance(queries, np.ndarray) and isinstance(document, np.ndarray):
            row_BC = np.stack([top(product_N, depth + MARGIN) for product_N in queries @ document.T])
            return rescore(queries, row_BC, document, min(depth, len(self)))
        score_BN = np.where(is_comparable(queries, document), compare(queries, document), np.float32(-np.inf))
        row_BK = np.stack([top(scores, min(depth, len(self))) for scores in score_BN])
        score_BK = np.take_along_axis(score_BN, row_BK, axis=1)
        return score_BK, np.where(np.isneginf(score_BK), -1, row_BK)

    def _whole(self) -> Vectors:
        if len(self._parts) > 1:
            self._parts = [join(self._parts)]
        return self._parts[0]


def best_of_all(encoding: EncodedDocuments, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
    """Exact results over an encoding of any size, computed batch by batch."""
    best = np.empty((count(queries), 0), np.float32), np.empty((count(queries), 0), np.int64)
    first = 0
    for documents in encoding.batches():
        part = Exact(encoding.representation)
        part.add(documents)
        scores, rows = part.search(queries, depth)
        best = merge([best, (scores, np.where(rows < 0, -1, rows + first))], depth)
        first += count(documents)
    return best
