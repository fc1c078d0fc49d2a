"""Dense search over the signs of the values, one bit per dimension, with exact scores for the best candidates.

    agreement(q, d) = number of dimensions in which q and d have the same sign

faiss compares the bits with 1/32 of fp32's memory traffic; candidates are then scored by q . d of the vectors
themselves, which stay on disk. Source of the two steps: Yamada et al. 2021, arXiv:2106.00882; faiss.

Shapes: B queries, N documents, H dimensions, C candidates per query, K results per query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.faiss_structure import GPU_MOST, copy_to_gpu, import_faiss
from irexp.index.growing import GrowingArrays, read_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import count_candidates, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, Vectors, dim


@dataclass(frozen=True)
class BinarySearch:
    """Search settings.

    Attributes:
        candidates: the number of documents that are scored exactly.
    """

    candidates: int = 1000


class Binary(StreamedIndex):
    """Signs find candidates, vectors score them."""

    takes = "dense"

    def __init__(self, *, search: BinarySearch | None = None) -> None:
        """An empty index.

        Args:
            search: the search settings.
        """
        self._search = search or BinarySearch()
        check_least(1, {"search.candidates": self._search.candidates})
        self._writer: GrowingArrays | None = None
        self._dtype = np.dtype(np.float32)
        self._vector_NH: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._index: Any = None
        self._gpu: Any = None

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return False

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open or resume a folder; vectors keep the precision of the encoding."""
        self._writer, self._dtype = GrowingArrays(folder), encoding.dtype
        return self._writer.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, np.ndarray) and self._writer is not None
        arrays: dict[str, NDArray[Any]] = {"vectors": vectors.astype(self._dtype), "signs": _signs(vectors)}
        self._writer.append(arrays, documents=len(vectors))

    def finish(self) -> None:
        """Do nothing; `add` has written everything."""

    def load(self, folder: Path) -> None:
        """Read the signs into memory, and map the vectors."""
        faiss = import_faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())
        arrays = read_arrays(folder, "index=binary")
        self._vector_NH = arrays["vectors"]
        self._index = faiss.IndexBinaryFlat(8 * arrays["signs"].shape[1])
        self._index.add(np.ascontiguousarray(arrays["signs"]))
        self._gpu = None

    def to(self, device: torch.device) -> None:
        """Copy the signs to the GPU, if faiss supports it."""
        self._gpu = copy_to_gpu(self._index, device, name="index=binary")

    def __len__(self) -> int:
        return len(self._vector_NH)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query."""
        assert isinstance(queries, np.ndarray)
        check_dim(dim(queries), dim(self._vector_NH))
        depth = min(depth, len(self))
        wanted = count_candidates(self._search.candidates, depth, self._vector_NH)
        index = self._gpu if self._gpu is not None and wanted <= GPU_MOST else self._index
        _, row_BC = index.search(_signs(queries), wanted)
        return rescore(queries, row_BC, self._vector_NH, depth)


def _signs(vector_BH: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.packbits(vector_BH > 0, axis=1)
