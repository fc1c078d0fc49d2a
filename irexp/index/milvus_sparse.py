"""Sparse vectors in Milvus: an inverted index, embedded or on a server; see `irexp.index.milvus`.

Milvus takes no negative weights, and no vectors without a term: such documents have no row, such queries no result.

Shapes: B queries, b queries with a term, K results per query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from irexp.index.index import Rows, Scores, check_dim
from irexp.index.milvus import MilvusEngine
from irexp.index.milvus_collection import Consistency, requests
from irexp.index.milvus_settings import check_ranges
from irexp.index.prune import prune
from irexp.index.rescore import no_results
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, Vectors, count, dim
from irexp.types import UserError


@dataclass(frozen=True)
class MilvusSparseSearch:
    """Search settings for sparse vectors.

    Attributes:
        terms: the number of the query's heaviest terms that are looked up; None for all.
        threshold: the smallest query weight that is looked up.
        consistency: which writes a search sees.
    """

    terms: int | None = None
    threshold: float = 0.0
    consistency: Consistency = "Strong"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges({"search.terms": self.terms})


class MilvusSparse(MilvusEngine):
    """Sparse vectors by their inner products: an inverted index."""

    takes = "sparse"

    def __init__(
        self,
        *,
        terms: int | None = None,
        threshold: float = 0.0,
        uri: str | None = None,
        partition: str | None = None,
        search: MilvusSparseSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            terms: the number of a document's heaviest terms that are kept; None for all.
            threshold: the smallest document weight that is kept.
            uri: a server, such as http://localhost:19530; None for Milvus Lite in the index's folder.
            partition: the partition of the collection that holds the vectors; None for the default one.
            search: the search settings.
        """
        super().__init__("SPARSE_INVERTED_INDEX", uri=uri, partition=partition)
        check_ranges({"terms": terms})
        self._terms, self._threshold, self._search = terms, threshold, search or MilvusSparseSearch()

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return bool(
            settings["terms"] is settings["search"]["terms"] is None
            and settings["threshold"] == settings["search"]["threshold"] == 0
        )

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Create or find the collection."""
        return self._prepare(folder, "sparse", encoding.dim)

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors; one without a term has no row."""
        assert isinstance(vectors, scipy.sparse.csr_array)
        if (vectors.data < 0).any():
            raise UserError("Milvus does not take negative weights, which this model makes; use index=sparse")
        kept = prune(vectors, self._terms, self._threshold)
        for part in requests((8 * np.diff(kept.indptr)).tolist()):
            present = part.start + np.flatnonzero(np.diff(kept.indptr)[part])
            rows = (present - part.start + self._count).tolist()
            self._send(rows, as_dictionaries(kept, present), {}, part.stop - part.start)

    def _build_parameters(self) -> dict[str, int]:
        return {}

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those that share a term with it."""
        assert self._collection is not None and isinstance(queries, scipy.sparse.csr_array)
        check_dim(dim(queries), self._dim)
        depth = self._limited(depth)
        pruned = prune(queries, self._search.terms, self._search.threshold)
        row_b = np.flatnonzero(np.diff(pruned.indptr))  # Milvus does not take queries without a term
        score_BK, row_BK = no_results(count(queries), depth)
        score_BK[row_b], row_BK[row_b] = self._collection.search(
            as_dictionaries(pruned, row_b), depth, {}, self._search.consistency
        )
        return score_BK, row_BK


def as_dictionaries(vectors: scipy.sparse.csr_array, rows: NDArray[np.int64]) -> list[dict[int, float]]:
    """The weight of each term of the given rows."""
    found = []
    for row in rows.tolist():
        inside = slice(int(vectors.indptr[row]), int(vectors.indptr[row + 1]))
        found.append(dict(zip(vectors.indices[inside].tolist(), vectors.data[inside].tolist(), strict=True)))
    return found
