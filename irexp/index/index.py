"""The interface of search engines: build in batches, load memory-mapped, search in batches.

An index sees vectors, or texts, and row numbers, never a model or a document id; `irexp.index.ranking` turns rows into
ids. The similarity of vectors is the inner product, or sums and maxima of it, the larger the better; a model whose
similarity is the cosine normalises its vectors. The constructor's arguments are build settings, except `search`, which
is not part of the index's identity: a sweep over search settings does not rebuild the index.

Shapes: B queries, N documents, H embedding dimensions, K results per query.
"""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from irexp.index.shards import EncodedDocuments
from irexp.index.texts import Texts
from irexp.index.vectors import Queries, Representation, Vectors, count
from irexp.types import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Scores = NDArray[np.float32]
Rows = NDArray[np.int64]

#: The input of `build`: vectors, or texts for an engine that takes them.
Source = EncodedDocuments | Texts

#: Arguments of a constructor that do not decide what is built: how it is searched, and where a server is.
_NOT_BUILT = ("search", "uri")


class Index(ABC):
    """A searchable set of vectors or texts; rows are numbered in the order in which documents were added.

    Attributes:
        takes: the input, one kind of vectors or text.
        matches_tokens: whether it compares vectors of tokens only with those of the same token.
        build_settings: the name of the class, as "class", and the constructor's arguments that decide what is built.
    """

    takes: Representation
    matches_tokens: ClassVar[bool] = False
    build_settings: dict[str, Any]

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        """Note the build settings, so that an index is not opened with others than it was built with."""
        engine = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind_partial(engine, *arguments, **settings)
        given.apply_defaults()
        engine.build_settings = {"class": cls.__qualname__}
        for name, value in list(given.arguments.items())[1:]:
            if name not in _NOT_BUILT and isinstance(value, str | int | float | np.generic | Index | None):
                engine.build_settings[name] = _noted(value)
        return engine

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """Whether an engine with these settings, as in conf/index, finds the documents of the highest scores."""
        return True

    def check(self, count: int | None, dim: int) -> None:  # noqa: B027 - most engines accept any collection
        """Check that this engine can be built for a collection; called before anything is encoded.

        Args:
            count: the number of documents, None if unknown.
            dim: the dimensions of a vector.

        Raises:
            UserError: if it cannot, saying why.
        """

    def build_on(self, device: torch.device) -> None:  # noqa: B027 - most engines are built on the CPU
        """Use a device for the next `build`, if the engine can."""

    @abstractmethod
    def build(self, source: Source, folder: Path, advance: Callable[[int], object] = abs) -> None:
        """Build in a folder from encoded documents or texts; resumes what a killed process left there.

        If the folder holds a finished index of the first documents, the rest is added, with the same clusters and
        codes. Engines that reorder documents (maxsim, coil, seismic, sharded), and bm25, whose weights depend on all
        documents, start again.

        Args:
            source: the documents.
            folder: an existing folder for the index.
            advance: called with the number of documents added.
        """

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Load a finished index from its folder, memory-mapped if the engine can."""

    def to(self, device: torch.device) -> None:
        """Move the loaded index to a device, if the engine can."""
        if device.type != "cpu":
            log.info("%s is searched on the CPU", type(self).__name__)

    @abstractmethod
    def __len__(self) -> int:
        """The number of documents."""

    @property
    def most_results(self) -> int:
        """The largest depth of a search: all documents, or what an engine returns at most per query."""
        return len(self)

    @abstractmethod
    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query.

        Returns:
            Scores and rows, both (B, K) with K = min(depth, N), best first; a row of -1 means no result.
        """


class StreamedIndex(Index):
    """An engine that is built from vectors batch by batch."""

    @abstractmethod
    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open or resume a folder, and learn clusters or codes from the vectors before any are added.

        Returns:
            The number of documents already in the folder, from a killed process or a finished index.
        """

    @abstractmethod
    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors in fp32."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the files that `load` reads."""

    def build(self, source: Source, folder: Path, advance: Callable[[int], object] = abs) -> None:
        """Add the documents that are not in the folder yet.

        Raises:
            UserError: if the folder has more documents than the source.
        """
        assert isinstance(source, EncodedDocuments)
        done = self.begin(source, folder)
        if done > len(source):
            raise UserError(
                f"{folder} has {done:,} documents and the encoding only {len(source):,}; remove the folder and run "
                f"stage=index again"
            )
        advance(done)
        for vectors in source.batches(start=done):
            self.add(vectors)
            advance(count(vectors))
        self.finish()


class DenseIndex(StreamedIndex):
    """An engine of dense vectors that other engines fill with vectors which they make: MUVERA, XTR."""

    takes = "dense"

    @abstractmethod
    def prepare(self, count: int, dim: int, sample: Callable[[int], Vectors], folder: Path) -> int:
        """Do the same as `begin`, for vectors that another engine makes.

        Args:
            count: the number of vectors.
            dim: the dimensions of a vector.
            sample: returns as many random vectors.
            folder: an existing folder for the index.

        Returns:
            The number of vectors that the folder holds already; the others are to be added.
        """

    @abstractmethod
    def find(self, query_BH: NDArray[np.float32], depth: int) -> tuple[Scores, Rows]:
        """The best vectors with the scores of the engine, which may be rounded; see `search`."""


def _noted(value: object) -> object:
    """A value as JSON holds it; an engine by its own build settings."""
    if isinstance(value, Index):
        return value.build_settings
    return value.item() if isinstance(value, np.generic) else value


def check_dim(queries: int, documents: int) -> None:
    """Check that queries and documents have the same number of dimensions.

    Raises:
        UserError: if they differ.
    """
    if queries != documents:
        raise UserError(
            f"the queries have {queries} dimensions and the index {documents}: use the checkpoint that encoded the "
            f"documents"
        )
