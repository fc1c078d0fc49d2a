"""Approximate sparse search by Seismic: posting lists of bounded length, in blocks with summaries.

Each term keeps only the documents with its largest weights, clustered into blocks; a block is scored only if the
query's product with its summary, divided by `heap_factor`, exceeds the worst result so far. Weights have 16 bits.
Clusters are random and have no seed: building again makes a different index of about the same quality.
Source: Bruch et al. 2024, arXiv:2404.18812; the engine is the authors' package, the extra `seismic`.

Shapes: B queries, N documents, V vocabulary entries, K results per query.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from irexp.config.installation import install_command
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.prune import prune
from irexp.index.ranges import check_fractions, check_least
from irexp.index.rescore import no_results
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, Vectors, dim
from irexp.types import UserError

_FILE = "postings"
_SIZE = "size.npy"

#: Smaller vocabularies have term numbers of 16 bits.
_SMALL = 2**16

#: The largest number of 16 bits; the package makes infinity of a larger one.
_LARGEST = 65_504


@dataclass(frozen=True)
class SeismicSearch:
    """Search settings.

    Attributes:
        terms: the number of the query's heaviest terms that are looked up.
        heap_factor: the smaller, the more blocks are scored; 0 for all.
    """

    terms: int = 10
    heap_factor: float = 0.9


class Seismic(StreamedIndex):
    """The authors' index, with row numbers as document names."""

    takes = "sparse"

    def __init__(
        self,
        *,
        postings: int = 3500,
        centroid_fraction: float = 0.1,
        min_cluster_size: int = 2,
        summary_energy: float = 0.4,
        terms: int | None = None,
        threshold: float = 0.0,
        search: SeismicSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            postings: per term, on average.
            centroid_fraction: the number of blocks of a posting list, as a fraction of its length.
            min_cluster_size: the smallest number of documents in a block.
            summary_energy: the fraction of a block's weight that its summary keeps.
            terms: the number of a document's heaviest terms that are kept; None for all.
            threshold: the smallest weight that is kept.
            search: the search settings.
        """
        self._options = {
            "n_postings": postings,
            "centroid_fraction": centroid_fraction,
            "min_cluster_size": min_cluster_size,
            "summary_energy": summary_energy,
        }
        self._terms, self._threshold, self._search = terms, threshold, search or SeismicSearch()
        check_least(1, {"postings": postings, "min_cluster_size": min_cluster_size})
        check_least(1, {"terms": terms, "search.terms": self._search.terms})
        check_least(0, {"search.heap_factor": self._search.heap_factor})
        check_fractions({"centroid_fraction": centroid_fraction, "summary_energy": summary_energy})
        self._folder: Path | None = None
        self._dataset: Any = None
        self._index: Any = None
        self._added, self._is_empty = 0, True
        self._shape = (0, 0)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return False

    def require_packages(self) -> None:
        """Check that the package is installed, before anything is made."""
        _package()

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Start again: the package needs the whole collection in memory, and builds in `finish`."""
        self._folder, self._dataset = folder, _package().SeismicDataset()
        self._added, self._is_empty = 0, True
        self._shape = (len(encoding), encoding.dim)
        if encoding.dim >= _SMALL:
            self._dataset = _package().SeismicDatasetLV()
        return 0

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, scipy.sparse.csr_array)
        _refuse_negative(vectors)
        _refuse_large(vectors)
        part = prune(vectors, self._terms, self._threshold)
        part.sort_indices()
        present = np.flatnonzero(np.diff(part.indptr))  # the package does not accept empty documents
        rows = [str(row) for row in self._added + present]
        ends = np.concatenate([[0], part.indptr[1:][present]]).astype(np.int64)
        if len(rows):
            self._is_empty = False
            self._dataset.add_documents_by_id(rows, part.indices.astype(np.int64), part.data.astype(np.float32), ends)
        self._added += part.shape[0]

    def finish(self) -> None:
        """Build the index and write it."""
        assert self._folder is not None
        kind = _package().SeismicIndexLV if self._shape[1] >= _SMALL else _package().SeismicIndex
        if not self._is_empty:
            built = kind.build_from_dataset(self._dataset, **self._options, num_threads=torch.get_num_threads())
            built.save(str(self._folder / _FILE))
        np.save(self._folder / _SIZE, np.array(self._shape))
        self._dataset = None

    def load(self, folder: Path) -> None:
        """Read the index into memory."""
        if not (folder / _SIZE).is_file():
            raise UserError(f"{folder / _SIZE} does not exist: this index was not built by index=seismic")
        self._shape = tuple(np.load(folder / _SIZE).tolist())
        kind = _package().SeismicIndexLV if self._shape[1] >= _SMALL else _package().SeismicIndex
        found = sorted(folder.glob(f"{_FILE}*"))  # none for a collection without terms
        self._index = kind.load(str(found[0])) if found else None

    def __len__(self) -> int:
        return int(self._shape[0])

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query in the blocks that are scored."""
        assert isinstance(queries, scipy.sparse.csr_array)
        check_dim(dim(queries), self._shape[1])
        _refuse_negative(queries)
        depth = min(depth, len(self))
        score_BK, row_BK = no_results(queries.shape[0], depth)
        if self._index is None:
            return score_BK, row_BK
        string = _package().get_seismic_string()
        ends = queries.indptr
        inside = [slice(ends[n], ends[n + 1]) for n in range(queries.shape[0])]
        found = self._index.batch_search(
            np.arange(queries.shape[0]).astype(string),
            [queries.indices[part].astype(string) for part in inside],
            [queries.data[part].astype(np.float32) for part in inside],
            k=depth,
            query_cut=self._search.terms,
            heap_factor=self._search.heap_factor,
            num_threads=torch.get_num_threads(),
        )
        for results in found:
            for place, (name, score, row) in enumerate(results):
                score_BK[int(name), place], row_BK[int(name), place] = score, int(row)
        return score_BK, row_BK


def _package() -> Any:
    try:
        return importlib.import_module("seismic")
    except ImportError as error:
        raise UserError(
            f"index=seismic needs its package ({error}): {install_command('seismic')}; it has wheels only for "
            f"Python 3.11 on Linux x86_64, so use index=sparse elsewhere"
        ) from error


def _refuse_negative(vectors: scipy.sparse.csr_array) -> None:
    if (vectors.data < 0).any():
        raise UserError("index=seismic does not accept negative weights, which this model makes; use index=sparse")


def _refuse_large(vectors: scipy.sparse.csr_array) -> None:
    """Only of documents: a query's weights have 32 bits."""
    if (vectors.data > _LARGEST).any():
        raise UserError(
            f"index=seismic stores weights in 16 bits, up to {_LARGEST:,}, and this model makes larger ones, such as "
            f"{vectors.data.max():,.0f}; use index=sparse"
        )
