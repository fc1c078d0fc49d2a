"""Exact search by inner product, through faiss (Douze et al. 2024, arXiv:2401.08281)."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from irexp.index.index import Index, Rows, Scores
from irexp.index.vectors import Vectors
from irexp.types import UserError

_FILE = "vectors.faiss"


def import_faiss() -> Any:
    """The faiss module, if exactly one of its distributions is installed.

    Raises:
        UserError: if there is none, or both fill the same folder and neither works.
    """
    found = [name for name in ("faiss-cpu", "faiss-gpu-cu12") if _is_installed(name)]
    if len(found) == 2:
        raise UserError(
            "faiss-cpu and faiss-gpu-cu12 are both installed and overwrite each other; "
            "pip uninstall -y faiss-cpu faiss-gpu-cu12, then pip install the one you want"
        )
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"faiss cannot be imported ({error}); pip install faiss-cpu, or faiss-gpu-cu12") from error
    return faiss


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class FaissFlat(Index):
    """Every vector compared with every query."""

    takes = "dense"

    def __init__(self) -> None:
        """An empty index; its dimensions are those of the first vectors."""
        self._index: Any = None

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, np.ndarray)
        if self._index is None:
            self._index = import_faiss().IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors))

    def save(self, folder: Path) -> None:
        """Write the vectors."""
        assert self._index is not None, "an empty collection is refused before it is indexed"
        import_faiss().write_index(self._index, str(folder / _FILE))

    def load(self, folder: Path) -> None:
        """Map the vectors into memory."""
        faiss = import_faiss()
        path = folder / _FILE
        if not path.is_file():
            raise UserError(f"{path} is not there: this index was not made by faiss_flat")
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)

    def __len__(self) -> int:
        return int(self._index.ntotal) if self._index is not None else 0

    def search(self, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query.

        faiss multiplies matrices only above a threshold that counts queries times dimensions, and below it compares
        pair by pair, seven times slower at 64 queries; the threshold is lowered to one.
        """
        assert isinstance(queries, np.ndarray)
        faiss = import_faiss()
        if queries.shape[1] != self._index.d:
            raise UserError(
                f"the queries have {queries.shape[1]} dimensions and the index {self._index.d}: "
                f"the checkpoint is not the one that encoded the documents"
            )
        faiss.cvar.distance_compute_blas_threshold = 1
        score_BK, row_BK = self._index.search(np.ascontiguousarray(queries), min(depth, len(self)))
        return score_BK, row_BK
