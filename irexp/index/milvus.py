"""Search by Milvus: embedded in the index's folder (Milvus Lite), or on a server or cluster, `index.uri=http://…`.

The row of a document is its primary key. A build resumes after the last batch that was acknowledged; what was sent but
not acknowledged is sent again and replaces itself. Dense vectors are also kept in the index's folder, where the
candidates that Milvus finds are scored exactly, so that equal documents have equal scores whatever the batch.
Source: Wang et al. 2021, "Milvus: A Purpose-Built Vector Data Management System", SIGMOD; the extra `milvus`.

Shapes: B queries, N documents, H dimensions, K results per query, C candidates per query.
"""

from __future__ import annotations

import json
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from irexp.index.growing import GrowingArrays, clear_arrays, count_documents, read_arrays
from irexp.index.index import DenseIndex, Rows, Scores, StreamedIndex, check_dim
from irexp.index.milvus_collection import MOST_RESULTS, Consistency, MilvusCollection, package, requests
from irexp.index.milvus_settings import check_partition, check_ranges, check_uri
from irexp.index.rescore import MARGIN, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, Vectors, dim
from irexp.types import UserError

#: The folder of a Milvus index within the index's folder, since the engines that fill one keep files there, too.
_FOLDER = "milvus"
_COLLECTION = "collection.json"

#: The structures that Milvus Lite has.
_OF_LITE = ("FLAT", "HNSW", "IVF_FLAT")

#: The dimensions of a dense vector that a server accepts.
_DIMS = range(2, 32769)


@dataclass(frozen=True)
class MilvusSearch:
    """Search settings for dense vectors.

    Attributes:
        ef: the number of candidates in an HNSW or DISKANN, at least the requested depth.
        probes: the number of clusters of an IVF_FLAT that are searched.
        consistency: which writes a search sees.
    """

    ef: int = 128
    probes: int = 32
    consistency: Consistency = "Strong"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges({"search.ef": self.ef, "search.probes": self.probes})


class MilvusEngine(StreamedIndex):
    """What the engines for dense and for sparse vectors share: a collection, and a record of what it has taken."""

    def __init__(self, structure: str, *, uri: str | None, partition: str | None) -> None:
        """An empty index; see the subclasses."""
        check_uri(uri)
        check_partition(partition)
        self._structure, self._uri, self._partition = structure, uri, partition
        self._collection: MilvusCollection | None = None
        self._record: GrowingArrays | None = None
        self._count = self._dim = 0

    def require_packages(self) -> None:
        """Check that the client is installed, before anything is made."""
        package()

    def check(self, count: int | None, dim: int) -> None:
        """Reach the server once, if there is one: its address and who connects are known to be right."""
        if self._uri is not None:
            MilvusCollection(_new_name(), Path(), uri=self._uri, partition=None).reach()

    @property
    def most_results(self) -> int:
        """See `Index`; the results that Milvus returns, less the margin for the rounding of its scores."""
        return len(self) if len(self) <= MOST_RESULTS else MOST_RESULTS - MARGIN

    def _limited(self, depth: int) -> int:
        """The results to ask for: at most one for each vector.

        Raises:
            UserError: if Milvus does not return as many.
        """
        most = self.most_results
        if (found := min(depth, len(self))) > most:
            raise UserError(
                f"Milvus returns at most {most:,} results per query, and {found:,} are needed; set search.depth to at "
                f"most {most - 2:,} (less if search.exclude_path leaves many out; around Milvus also "
                f"index.search.tokens and index.search.rescored), or use another engine"
            )
        return found

    @abstractmethod
    def _build_parameters(self) -> dict[str, int]:
        """The settings of the structure, by Milvus's names."""

    def finish(self) -> None:
        """Write everything to disk, and index the vectors."""
        assert self._collection is not None
        self._collection.finish(self._structure, self._build_parameters())
        self._collection = None

    def load(self, folder: Path) -> None:
        """Open the collection."""
        own = folder / _FOLDER
        if not (own / _COLLECTION).is_file():
            raise UserError(f"{own / _COLLECTION} does not exist: this index was not built by index=milvus")
        self._collection = self._named(own)
        self._collection.open()
        self._count = count_documents(own)

    def __len__(self) -> int:
        return self._count

    def _prepare(self, folder: Path, kind: Literal["dense", "sparse"], dim: int) -> int:
        """Create or find the collection; returns how many vectors it has acknowledged."""
        own = folder / _FOLDER
        own.mkdir(exist_ok=True)
        if not (own / _COLLECTION).is_file():  # the name is noted first: an interrupted build finds its collection
            partial = own / f"{_COLLECTION}.partial"
            partial.write_text(json.dumps({"name": _new_name(), "dim": dim}) + "\n", encoding="utf8")
            os.replace(partial, own / _COLLECTION)
        self._collection = self._named(own)
        if self._collection.create(kind, dim):
            clear_arrays(own)
        self._record = GrowingArrays(own)
        self._count = self._record.finished
        return self._count

    def _named(self, own: Path) -> MilvusCollection:
        noted = json.loads((own / _COLLECTION).read_text(encoding="utf8"))
        self._dim = int(noted["dim"])
        return MilvusCollection(noted["name"], own / "lite.db", uri=self._uri, partition=self._partition)

    def _send(
        self, rows: Sequence[int], vectors: Sequence[Any], arrays: Mapping[str, NDArray[Any]], count: int
    ) -> None:
        """Send vectors, and record the next `count` documents as taken."""
        assert self._collection is not None and self._record is not None
        self._collection.upsert(rows, vectors)
        self._record.append(arrays, documents=count)
        self._count += count


def _new_name() -> str:
    return f"irexp_{uuid4().hex}"


class Milvus(MilvusEngine, DenseIndex):
    """Dense vectors by their inner products."""

    takes = "dense"

    def __init__(
        self,
        structure: Literal["FLAT", "HNSW", "IVF_FLAT", "DISKANN"] = "FLAT",
        *,
        links: int = 16,
        ef_construction: int = 200,
        lists: int | None = None,
        uri: str | None = None,
        partition: str | None = None,
        search: MilvusSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            structure: of Milvus; FLAT is exact. Milvus Lite does not have DISKANN.
            links: the neighbours of each vector in an HNSW.
            ef_construction: the number of candidates while an HNSW is built.
            lists: the number of clusters of an IVF_FLAT; None for 4 sqrt(N), or N / 39 if that is less.
            uri: a server, such as http://localhost:19530; None for Milvus Lite in the index's folder.
            partition: the partition of the collection that holds the vectors; None for the default one.
            search: the search settings.
        """
        super().__init__(structure, uri=uri, partition=partition)
        check_ranges({"links": links, "ef_construction": ef_construction, "lists": lists})
        self._links, self._ef_construction, self._lists = links, ef_construction, lists
        self._search = search or MilvusSearch()
        self._dtype: np.dtype[Any] | None = None
        self._vector_NH: NDArray[Any] = np.empty((0, 0), np.float32)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return bool(settings["structure"] == "FLAT")

    def check(self, count: int | None, dim: int) -> None:
        """Refuse a structure that Milvus Lite does not have and vectors that no server takes, and reach the server."""
        self._check_structure(dim)
        super().check(count, dim)

    def _check_structure(self, dim: int) -> None:
        if self._uri is None and self._structure not in _OF_LITE:
            raise UserError(
                f"index.structure={self._structure}: Milvus Lite has only {', '.join(_OF_LITE)}; choose one of them, "
                f"or name a server with index.uri=http://…"
            )
        if dim not in _DIMS:
            raise UserError(f"Milvus takes vectors of {_DIMS[0]} to {_DIMS[-1]:,} dimensions, and these have {dim:,}")

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Create or find the collection; exact vectors keep the precision of the encoding."""
        self._check_structure(encoding.dim)
        self._dtype = encoding.dtype
        return self._prepare(folder, "dense", encoding.dim)

    def prepare(self, count: int, dim: int, sample: Callable[[int], Vectors], folder: Path) -> int:
        """See `DenseIndex`; no exact vectors are kept."""
        self._check_structure(dim)
        self._dtype = None
        return self._prepare(folder, "dense", dim)

    def add(self, vectors: Vectors) -> None:
        """Add a batch of vectors."""
        assert isinstance(vectors, np.ndarray)
        for part in requests([4 * dim(vectors)] * len(vectors)):
            rows = range(self._count, self._count + part.stop - part.start)
            arrays = {} if self._dtype is None else {"vectors": vectors[part].astype(self._dtype)}
            self._send(rows, list(vectors[part].astype(np.float32, copy=False)), arrays, len(rows))

    def _build_parameters(self) -> dict[str, int]:
        lists = self._lists or max(1, min(round(4 * math.sqrt(self._count)), self._count // 39, 65536))
        found: dict[str, dict[str, int]] = {
            "HNSW": {"M": self._links, "efConstruction": self._ef_construction},
            "IVF_FLAT": {"nlist": lists},
        }
        return found.get(self._structure, {})

    def load(self, folder: Path) -> None:
        """Open the collection, and memory-map the exact vectors if they are kept."""
        super().load(folder)
        arrays = read_arrays(folder / _FOLDER, "index=milvus") if self._count else {}
        self._vector_NH = arrays.get("vectors", np.empty((0, self._dim), np.float32))

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query, scored exactly."""
        assert isinstance(queries, np.ndarray)
        depth = self._limited(depth)
        _, row_BC = self._find(queries, depth + MARGIN)
        return rescore(queries, row_BC, self._vector_NH, depth)

    def find(self, query_BH: NDArray[np.float32], depth: int) -> tuple[Scores, Rows]:
        """The best vectors of each query with the scores of Milvus, whose last bits may depend on the batch."""
        return self._find(query_BH, self._limited(depth))

    def _find(self, query_BH: NDArray[np.float32], depth: int) -> tuple[Scores, Rows]:
        assert self._collection is not None
        check_dim(dim(query_BH), self._dim)
        depth = min(depth, len(self))
        parameters = {
            "HNSW": {"ef": max(self._search.ef, depth)},
            "DISKANN": {"search_list": max(self._search.ef, depth)},
            "IVF_FLAT": {"nprobe": self._search.probes},
        }
        found = parameters.get(self._structure, {})
        return self._collection.search(list(query_BH.astype(np.float32)), depth, found, self._search.consistency)
