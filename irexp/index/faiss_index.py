"""Dense search through faiss (Douze et al. 2024, arXiv:2401.08281): exact, or any of its approximate structures.

What an index is, one string says, in the grammar of faiss's index factory: `Flat` (every vector), `IVF1024,Flat`
(the nearest of 1024 clusters), `IVF1024,PQ48` (with product-quantized vectors, Jégou et al. 2011), `HNSW32,Flat` (a
graph, Malkov and Yashunin, arXiv:1603.09320), `SQ8` (8 bits a value); `,RFlat` behind any of them keeps the vectors
and scores the best candidates again, exactly.

Shapes: B queries, N documents, H dimensions, K results per query.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.shards import Encoding
from irexp.index.vectors import Vectors, dim
from irexp.types import UserError

log = logging.getLogger(__name__)

_FILE = "vectors.faiss"
_TRAINED = "trained.faiss"

#: Training vectors below which faiss warns that a cluster is learned from too few.
_PER_LIST = 39

#: Training vectors of a cluster or code beyond which little is learned.
_ENOUGH = 64

#: Vectors that are added to a graph together.
_TOGETHER = 4096


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


@dataclass(frozen=True)
class FaissSearch:
    """How much of an index is looked at; None for faiss's own choice, or where a structure has no such thing.

    Attributes:
        probes: the clusters of an IVF that are searched.
        ef: the candidates that an HNSW keeps on its way, never fewer than are asked for.
        candidates: how many documents are scored again exactly, where the factory ends in RFlat.
    """

    probes: int | None = None
    ef: int | None = None
    candidates: int | None = None


class Faiss(StreamedIndex):
    """One faiss index, by its factory string."""

    takes = "dense"

    def __init__(
        self,
        factory: str,
        *,
        lists: int | None = None,
        codes: int | None = None,
        sample: int | None = None,
        seed: int = 0,
        search: FaissSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            factory: the structure, in faiss's grammar; `{lists}` and `{codes}` in it are filled in.
            lists: the clusters of an IVF; None for 4 sqrt(N), as many as there are enough training vectors for.
            codes: the bytes of a product-quantized vector; None for one for four dimensions.
            sample: the random vectors that clusters and codes are learned from; None for 64 a cluster, at least 65,536.
            seed: of the sample.
            search: how it is searched.
        """
        self._factory, self._lists, self._codes = factory, lists, codes
        self._sample, self._seed, self._search = sample, seed, search or FaissSearch()
        self._index: Any = None
        self._folder: Path | None = None
        self._waiting_NH: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def check(self, count: int | None, dim: int) -> None:
        """Refuse what faiss would refuse only behind the encoding: too few documents, a string it does not read."""
        factory = self._filled(count or 2**20, dim)
        index = _make(factory, dim)
        if count is None or index.is_trained:
            return
        needed, what = _needed(factory)
        sample = count if self._sample is None else min(count, self._sample)
        if sample < needed:
            raise UserError(
                f"index.factory={factory} learns {what} from {sample:,} vectors, which are too few; take a smaller "
                f"number, a larger index.sample, or index=faiss_flat, which needs no training"
            )

    def begin(self, encoding: Encoding, folder: Path) -> int:
        """Learn clusters and codes from a random sample, unless a killed process has."""

        def sample(size: int) -> Vectors:
            return encoding.sample(size, seed=self._seed)

        self.prepare(len(encoding), encoding.dim, sample, folder)
        return 0

    def prepare(self, count: int, dim: int, sample: Callable[[int], Vectors], folder: Path) -> None:
        """The same for vectors that an engine makes of its own: so many, so long, and random ones of them."""
        faiss = import_faiss()
        self.check(count, dim)
        self._waiting_NH = self._waiting_NH[:0]
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._folder = folder
        factory = self._filled(count, dim)
        if (folder / _TRAINED).is_file():
            self._index = faiss.read_index(str(folder / _TRAINED))
            return
        self._index = _make(factory, dim)
        if not self._index.is_trained:
            sample_NH = sample(self._sample or _ENOUGH * max(1024, _needed(factory)[0]))
            assert isinstance(sample_NH, np.ndarray)
            log.info("%s learns from %s vectors", factory, f"{len(sample_NH):,}")
            self._train(sample_NH)
            faiss.write_index(self._index, str(folder / f"{_TRAINED}.partial"))
            (folder / f"{_TRAINED}.partial").rename(folder / _TRAINED)

    def _train(self, sample_NH: Any) -> None:
        for part in _parts(self._index):
            if hasattr(part, "do_polysemous_training"):
                part.do_polysemous_training = False  # minutes for a way of searching that is not used here
        for parameters in [part.cp for part in _parts(self._index) if hasattr(part, "cp")]:
            parameters.min_points_per_centroid = 1  # whether there are enough was checked, in words
            parameters.max_points_per_centroid = max(_ENOUGH, (self._sample or 0) // 256)
        self._index.train(np.ascontiguousarray(sample_NH))

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, np.ndarray)
        if "HNSW" not in self._factory:
            self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
            return
        # a graph depends on what is added together, and with several threads on which of them comes first
        waiting_NH = np.concatenate([self._waiting_NH, vectors]) if len(self._waiting_NH) else vectors
        whole = len(waiting_NH) // _TOGETHER * _TOGETHER
        for start in range(0, whole, _TOGETHER):
            self._add_to_graph(waiting_NH[start : start + _TOGETHER])
        self._waiting_NH = waiting_NH[whole:]

    def _add_to_graph(self, vector_NH: NDArray[np.float32]) -> None:
        faiss = import_faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        self._index.add(np.ascontiguousarray(vector_NH, dtype=np.float32))
        faiss.omp_set_num_threads(threads)

    def finish(self) -> None:
        """Write the index."""
        assert self._folder is not None and self._index is not None
        if len(self._waiting_NH):
            self._add_to_graph(self._waiting_NH)
            self._waiting_NH = self._waiting_NH[:0]
        import_faiss().write_index(self._index, str(self._folder / _FILE))
        (self._folder / _TRAINED).unlink(missing_ok=True)

    def load(self, folder: Path) -> None:
        """Map the index into memory."""
        faiss = import_faiss()
        path = folder / _FILE
        if not path.is_file():
            raise UserError(f"{path} is not there: this index was not made by faiss")
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)

    def to(self, device: torch.device) -> None:
        """Copy the index to the GPU, if faiss was built for it and has this structure there."""
        faiss = import_faiss()
        if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
            return
        try:
            self._index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, self._index)
        except RuntimeError as error:
            log.info("%s stays on the processor: %s", self._factory, str(error).splitlines()[0])

    def __len__(self) -> int:
        return int(self._index.ntotal) if self._index is not None else 0

    def search(self, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query.

        faiss multiplies matrices only above a threshold that counts queries times dimensions, and below it compares
        pair by pair, seven times slower at 64 queries; from four queries on the threshold is lowered.
        """
        assert isinstance(queries, np.ndarray)
        check_dim(dim(queries), self._index.d)
        faiss = import_faiss()
        faiss.cvar.distance_compute_blas_threshold = 1 if len(queries) >= 4 else 2**30
        depth = min(depth, len(self))
        self._set_parameters(depth)
        score_BK, row_BK = self._index.search(np.ascontiguousarray(queries), depth)
        return np.where(row_BK < 0, -np.inf, score_BK).astype(np.float32, copy=False), row_BK

    def _set_parameters(self, depth: int) -> None:
        faiss = import_faiss()
        space = faiss.GpuParameterSpace() if "Gpu" in type(self._index).__name__ else faiss.ParameterSpace()
        search = self._search
        wanted = {"nprobe": search.probes, "efSearch": search.ef and max(search.ef, depth)}
        if search.candidates is not None:
            wanted["k_factor_rf"] = max(1, math.ceil(search.candidates / depth))
        for name, value in wanted.items():
            if value is None:
                continue
            try:
                space.set_index_parameter(self._index, name, value)
            except RuntimeError as error:
                option = {"nprobe": "probes", "efSearch": "ef", "k_factor_rf": "candidates"}[name]
                raise UserError(f"index.search.{option}={value}: an index {self._factory} has no such thing") from error

    def _filled(self, count: int, dim: int) -> str:
        lists = self._lists or max(1, min(round(4 * math.sqrt(count)), count // _PER_LIST))
        codes = self._codes or max(1, dim // 4)
        try:
            return self._factory.format(lists=lists, codes=codes)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(f"index.factory={self._factory}: only {{lists}} and {{codes}} are filled in") from error


def _make(factory: str, dim: int) -> Any:
    faiss = import_faiss()
    try:
        return faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).rpartition("Error: ")[2] or str(error)
        raise UserError(f"index.factory={factory}: faiss makes no such index of {dim} dimensions ({reason})") from error


def _parts(index: Any) -> list[Any]:
    """An index, its product quantizer, and what it is wrapped around."""
    index = import_faiss().downcast_index(index)
    inner = [getattr(index, name) for name in ("base_index", "index") if getattr(index, name, None) is not None]
    own = [index, *([index.pq] if hasattr(index, "pq") else [])]
    return own + [part for wrapped in inner for part in _parts(wrapped)]


def _needed(factory: str) -> tuple[int, str]:
    """The fewest vectors that a structure is learned from, and what is learned."""
    lists = max((int(number) for number in re.findall(r"(?:IVF|IMI)(\d+)", factory)), default=1)
    bits = [int(bits or 8) for bits in re.findall(r"PQ\d+(?:x(\d+))?", factory)]
    codes = 2 ** max(bits, default=0)
    return (lists, f"{lists:,} clusters") if lists >= codes else (codes, f"codes of {codes} values")
