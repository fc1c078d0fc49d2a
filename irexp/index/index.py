"""The interface of every search engine: build in batches, load memory-mapped, search in batches.

An index sees vectors, or texts, and row numbers, never a model and never a document id; `irexp.index.ranking` turns
rows into ids. The similarity of vectors is always the inner product, or sums and maxima of it, the larger the better:
a model whose similarity is the cosine normalises. What an engine is built with are its constructor's arguments; what
it is searched with is its `search` argument, which moves no index's identity: a sweep over it builds nothing again.

Shapes: B queries, N documents, H embedding dimensions, K results per query.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.shards import Encoding
from irexp.index.texts import Texts
from irexp.index.vectors import Queries, Representation, Vectors, count
from irexp.types import UserError

log = logging.getLogger(__name__)

Scores = NDArray[np.float32]
Rows = NDArray[np.int64]

#: What an index is built from: vectors, or texts where an engine takes them.
Source = Encoding | Texts


class Index(ABC):
    """A searchable set of vectors or texts; rows are numbered in the order in which they were added.

    Attributes:
        takes: the kind of vectors, or text; the stages hand it no other.
    """

    takes: Representation

    def check(self, count: int | None, dim: int) -> None:  # noqa: B027 - most engines can be built for anything
        """Refuse a collection that this engine cannot be built for; called before anything is encoded.

        Args:
            count: documents, None if that is not known.
            dim: dimensions of a vector.

        Raises:
            UserError: saying what is missing.
        """

    def build_on(self, device: torch.device) -> None:  # noqa: B027 - most engines are built on the processor
        """Use a device for what is built next, where the engine can."""

    @abstractmethod
    def build(self, source: Source, folder: Path, advance: Callable[[int], object] = abs) -> None:
        """Build from an encoding or from texts, in a folder, after what a killed process left there.

        A finished folder that holds the first documents of the encoding gets the rest; clusters and codes stay what
        was learned. Engines whose order is not that of the documents (maxsim, coil, seismic, sharded), and bm25, whose
        weights depend on all documents, begin again.

        Args:
            source: what it is built from.
            folder: where.
            advance: told how many documents were added.
        """

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take a finished folder, memory-mapped where the engine can."""

    def to(self, device: torch.device) -> None:
        """Move what is loaded to a device, where the engine can."""
        if device.type != "cpu":
            log.info("%s is searched on the processor", type(self).__name__)

    @abstractmethod
    def __len__(self) -> int:
        """How many documents it holds."""

    @abstractmethod
    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query.

        Returns:
            Scores and rows, both (B, K) with K = min(depth, N), best first; a row of -1 is no result.
        """


class StreamedIndex(Index):
    """An engine that is handed the vectors of a collection batch by batch."""

    @abstractmethod
    def begin(self, encoding: Encoding, folder: Path) -> int:
        """Take up a folder to build in, and learn from the vectors what has to be known before they are added.

        Returns:
            The documents that are in it: what a killed process left, or all of a finished index.
        """

    @abstractmethod
    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors, in fp32."""

    @abstractmethod
    def finish(self) -> None:
        """Complete what `load` needs."""

    def build(self, source: Source, folder: Path, advance: Callable[[int], object] = abs) -> None:
        """Add what is not in the folder yet.

        Raises:
            UserError: if more is.
        """
        assert isinstance(source, Encoding)
        done = self.begin(source, folder)
        if done > len(source):
            raise UserError(f"{folder} holds {done:,} documents and the encoding {len(source):,}; remove the folder")
        advance(done)
        for vectors in source.batches(start=done):
            self.add(vectors)
            advance(count(vectors))
        self.finish()


def check_dim(queries: int, documents: int) -> None:
    """Refuse queries of another size than the documents have."""
    if queries != documents:
        raise UserError(
            f"the queries have {queries} dimensions and the index {documents}: the checkpoint is not the one that "
            f"encoded the documents"
        )
