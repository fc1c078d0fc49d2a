"""The interface of every search engine: add vectors in batches, save, load memory-mapped, search in batches.

An index sees vectors and row numbers, never a model and never a document id; `irexp.index.ranking` turns rows into ids.
Similarity is always the inner product, or sums and maxima of it, the larger the better: a model whose similarity is
the cosine normalises.

Shapes: B queries, N documents, H embedding dimensions, K results per query.
"""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irexp.index.vectors import Representation, Vectors

Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


class Index(ABC):
    """A searchable set of vectors; rows are numbered in the order in which they were added.

    Attributes:
        takes: the kind of vectors.
    """

    takes: Representation

    @abstractmethod
    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into an existing folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take what `save` wrote, memory-mapped where the engine can."""

    @abstractmethod
    def __len__(self) -> int:
        """How many documents it holds."""

    @abstractmethod
    def search(self, queries: Vectors, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query.

        Returns:
            Scores and rows, both (B, K) with K = min(depth, N), best first; a row of -1 is no result.
        """
