"""Dense search by faiss (Douze et al. 2024, arXiv:2401.08281): exact, or with any of its approximate structures.

The structure is a string in the grammar of faiss's index factory: `Flat` (every vector), `IVF1024,Flat` (the nearest
of 1024 clusters), `IVF1024,PQ48` (with product-quantized vectors, Jégou et al. 2011), `HNSW32,Flat` (a graph, Malkov
and Yashunin, arXiv:1603.09320), `SQ8` (8 bits per value). A final `,RFlat` keeps the vectors and scores the best
candidates again, exactly. Where the vectors are kept (`Flat` and `RFlat`), results are scored pair by pair, so that
scores do not depend on other queries of the batch.

Shapes: B queries, N documents, H dimensions, K results per query.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.faiss_structure import (
    GPU_MOST,
    as_user_error,
    blas_threshold,
    candidate_index,
    check_structure,
    copy_to_gpu,
    fewest_training_vectors,
    import_faiss,
    kept_vectors,
    make_index,
    parts,
)
from irexp.index.index import DenseIndex, Rows, Scores, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import MARGIN, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, Vectors, dim
from irexp.types import UserError

log = logging.getLogger(__name__)

_FILE = "vectors.faiss"
_TRAINED = "trained.faiss"

#: Training vectors per cluster below which faiss warns of too few.
_LEAST_PER_CLUSTER = 39

#: Training vectors per cluster or code beyond which training improves little.
_MOST_PER_CLUSTER = 64

#: Vectors that are added to a graph together.
_GRAPH_BATCH = 4096


@dataclass(frozen=True)
class FaissSearch:
    """Search settings; None for faiss's default, or if the structure has no such setting.

    Attributes:
        probes: the number of clusters of an IVF that are searched.
        ef: the number of candidates during an HNSW search, at least the search depth.
        candidates: the number of documents that are scored again exactly, if the factory ends in RFlat.
    """

    probes: int | None = None
    ef: int | None = None
    candidates: int | None = None


class Faiss(DenseIndex):
    """A faiss index, defined by its factory string."""

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
            factory: the structure, in faiss's grammar, with optional placeholders `{lists}` and `{codes}`.
            lists: the number of clusters of an IVF; None for 4 sqrt(N), or N / 39 if that is less.
            codes: the bytes of a product-quantized vector; None for one per four dimensions.
            sample: the number of random vectors for training; None for 64 per cluster, at least 65,536.
            seed: of the sample.
            search: the search settings.

        Raises:
            UserError: if a setting is out of range, or `lists` or `codes` is given and has no placeholder.
        """
        self._factory, self._lists, self._codes = factory, lists, codes
        self._sample, self._seed, self._search = sample, seed, search or FaissSearch()
        check_least(1, {"lists": lists, "codes": codes, "sample": sample})
        _check_used(factory, {"lists": lists, "codes": codes})
        check_least(1, {f"search.{name}": value for name, value in vars(self._search).items()})
        check_least(0, {"seed": seed})
        self._index: Any = None
        self._gpu: Any = None
        self._folder: Path | None = None
        self._waiting_NH: NDArray[np.float32] = np.empty((0, 0), np.float32)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return str(settings["factory"]).removeprefix("IDMap,") == "Flat"

    def check(self, count: int | None, dim: int) -> None:
        """Refuse an unknown factory string, too few documents or a vain sample; faiss would after the encoding."""
        factory = self._filled(count or 2**20, dim)
        index = make_index(factory, dim)
        if index.is_trained and self._sample is not None:
            raise UserError(
                f"index.sample={self._sample}: index.factory={factory} learns nothing from vectors; leave it out"
            )
        if count is not None and not index.is_trained:
            self._check_sample(index, factory, count if self._sample is None else min(count, self._sample))

    def _check_sample(self, index: Any, factory: str, size: int) -> None:
        least, what = fewest_training_vectors(index)
        if size < least:
            raise UserError(
                f"index.factory={factory} learns {what} from {size:,} vectors, which are too few; use a smaller "
                f"number, a larger index.sample, or index=faiss_flat, which needs no training"
            )

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open a finished index, or learn clusters and codes from a random sample unless a killed process has."""

        def sample(size: int) -> Vectors:
            return encoding.sample(size, seed=self._seed)

        return self.prepare(len(encoding), encoding.dim, sample, folder)

    def prepare(self, count: int, dim: int, sample: Callable[[int], Vectors], folder: Path) -> int:
        """See `DenseIndex`; vectors of an unfinished index are added again."""
        self._waiting_NH, self._folder, self._gpu = self._waiting_NH[:0], folder, None
        import_faiss().omp_set_num_threads(torch.get_num_threads())
        if (folder / _FILE).is_file():
            self._index = _read(folder / _FILE)
            return len(self)
        self.check(count, dim)
        factory = self._filled(count, dim)
        if (folder / _TRAINED).is_file():
            self._index = _read(folder / _TRAINED)
            return 0
        self._index = make_index(factory, dim)
        if not self._index.is_trained:
            sample_NH = sample(self._sample or _MOST_PER_CLUSTER * max(1024, fewest_training_vectors(self._index)[0]))
            assert isinstance(sample_NH, np.ndarray)
            self._check_sample(self._index, factory, len(sample_NH))
            log.info("%s learns from %s vectors", factory, f"{len(sample_NH):,}")
            with as_user_error(f"index.factory={factory} cannot be learned from {len(sample_NH):,} vectors"):
                self._train(sample_NH)
            _write(self._index, folder / _TRAINED)
        return 0

    def _train(self, sample_NH: Any) -> None:
        for part in parts(self._index):
            if hasattr(part, "do_polysemous_training"):
                part.do_polysemous_training = False  # takes minutes, for a search mode that is not used here
        for parameters in [part.cp for part in parts(self._index) if hasattr(part, "cp")]:
            parameters.min_points_per_centroid = 1  # _check_sample has checked it
            parameters.max_points_per_centroid = max(_MOST_PER_CLUSTER, (self._sample or 0) // 256)
        self._index.train(np.ascontiguousarray(sample_NH))

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, np.ndarray)
        if "HNSW" not in self._factory:
            with as_user_error(f"index.factory={self._factory}: vectors could not be added"):
                self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
            return
        # a graph depends on which vectors are added together, and with several threads on their timing
        waiting_NH = np.concatenate([self._waiting_NH, vectors]) if len(self._waiting_NH) else vectors
        whole = len(waiting_NH) // _GRAPH_BATCH * _GRAPH_BATCH
        for start in range(0, whole, _GRAPH_BATCH):
            self._add_to_graph(waiting_NH[start : start + _GRAPH_BATCH])
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
        _write(self._index, self._folder / _FILE)
        (self._folder / _TRAINED).unlink(missing_ok=True)

    def load(self, folder: Path) -> None:
        """Memory-map the index."""
        faiss = import_faiss()
        path = folder / _FILE
        if not path.is_file():
            raise UserError(f"{path} does not exist: this index was not built by faiss")
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._index, self._gpu = _read(path, faiss.IO_FLAG_MMAP_IFC), None
        check_structure(self._index, self._factory)  # the index may come from elsewhere, or from before this check

    def to(self, device: torch.device) -> None:
        """Copy the index to the GPU, if faiss supports its structure there; it stays memory-mapped as well.

        If the factory ends in RFlat, only the part that finds candidates is copied; exact scores are computed here.
        """
        base = candidate_index(self._index)
        self._gpu = copy_to_gpu(self._index if base is None else base, device, name=f"index.factory={self._factory}")

    def __len__(self) -> int:
        return int(self._index.ntotal) if self._index is not None else 0

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query, scored pair by pair if the vectors are kept."""
        assert isinstance(queries, np.ndarray)
        vector_NH = kept_vectors(self._index)
        if vector_NH is None:
            return self.find(queries, depth)
        margin = 0 if self._factory.startswith("HNSW") else MARGIN  # more results would search more of a graph
        _, row_BC = self.find(queries, depth + margin)
        return rescore(queries, row_BC, vector_NH, min(depth, len(self)))

    def find(self, query_BH: NDArray[np.float32], depth: int) -> tuple[Scores, Rows]:
        """The best vectors with faiss's scores: of a matrix product, whose last bits depend on the batch.

        faiss multiplies matrices only above a threshold of queries times dimensions, and below it compares pair by
        pair, seven times slower for 64 queries; for four queries or more the threshold is lowered.
        """
        check_dim(dim(query_BH), self._index.d)
        depth = min(depth, len(self))
        if not depth:
            return np.empty((len(query_BH), 0), np.float32), np.empty((len(query_BH), 0), np.int64)
        vector_NH = None if candidate_index(self._index) is None else kept_vectors(self._index)
        candidates = depth if vector_NH is None else min(depth * self._factor(depth), len(self))
        is_for_gpu = self._gpu is not None and max(candidates, self._search.probes or 0) <= GPU_MOST
        self._set_parameters(depth, is_for_gpu=is_for_gpu)
        index = self._gpu if is_for_gpu else self._index
        failure = f"index.factory={self._factory} cannot be searched"
        with blas_threshold(1 if len(query_BH) >= 4 else 2**30), as_user_error(failure):
            score_BK, row_BK = index.search(np.ascontiguousarray(query_BH), candidates if is_for_gpu else depth)
        if is_for_gpu and vector_NH is not None:
            return rescore(query_BH, row_BK, vector_NH, depth)
        return np.where(row_BK < 0, -np.inf, score_BK).astype(np.float32, copy=False), row_BK

    def _factor(self, depth: int) -> int:
        """The number of candidates to score exactly, as a multiple of the results."""
        return max(1, math.ceil(min(self._search.candidates or 0, len(self)) / depth))

    def _set_parameters(self, depth: int, *, is_for_gpu: bool) -> None:
        faiss = import_faiss()
        index, space = self._index, faiss.ParameterSpace()
        if is_for_gpu:  # not decided by the index's class: after an OPQ it is not a GPU class
            index, space = self._gpu, faiss.GpuParameterSpace()
        search = self._search
        lists: int = next((part.nlist for part in parts(self._index) if hasattr(part, "nlist")), GPU_MOST)
        wanted = {
            "nprobe": search.probes and min(search.probes, lists),  # with more probes, PQ8x4fsr ranks at random
            "efSearch": search.ef and max(search.ef, depth),
        }
        if search.candidates is not None and not (is_for_gpu and candidate_index(self._index) is not None):
            wanted["k_factor_rf"] = self._factor(depth)
        for name, value in wanted.items():
            if value is None:
                continue
            try:
                space.set_index_parameter(index, name, value)
            except RuntimeError as error:
                option = {"nprobe": "probes", "efSearch": "ef", "k_factor_rf": "candidates"}[name]
                raise UserError(
                    f"index.search.{option}={value}: an index {self._factory} has no such setting; remove it"
                ) from error

    def _filled(self, count: int, dim: int) -> str:
        lists = self._lists or max(1, min(round(4 * math.sqrt(count)), count // _LEAST_PER_CLUSTER))
        codes = self._codes or max(1, dim // 4)
        try:
            return self._factory.format(lists=lists, codes=codes)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"index.factory={self._factory}: the only placeholders are {{lists}} and {{codes}}"
            ) from error


def _check_used(factory: str, settings: Mapping[str, int | None]) -> None:
    """Refuse a number that fills no placeholder: the index would have another one, in silence."""
    for name, value in settings.items():
        if value is not None and f"{{{name}" not in factory:
            raise UserError(
                f"index.{name}={value} is not used: index.factory={factory} has no placeholder {{{name}}}; write it "
                f"where the number belongs, as in IVF{{lists}},PQ{{codes}}, or omit index.{name}"
            )


def _read(path: Path, flags: int = 0) -> Any:
    with as_user_error(f"{path} is damaged; remove {path.parent} and run stage=index again"):
        return import_faiss().read_index(str(path), flags)


def _write(index: Any, path: Path) -> None:
    """Write the index completely or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with as_user_error(f"{path} cannot be written"):
        import_faiss().write_index(index, str(partial))
    partial.replace(path)
