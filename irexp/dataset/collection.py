"""The interface of collections: documents to stream and look up, topics to search for, training examples.

A dataset yields text and ids, never tokens. Documents are streamed: 8.8 million texts are never held in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from irexp.types import Document, Example, Qrel, Query, ScoredDoc, UserError


class DataError(UserError):
    """A collection cannot be read: the message names the file, the line and how to fix it."""


#: How several sets are mixed: see `irexp.dataset.mixture`.
Mixing = Literal["proportional", "proportional_batches", "round_robin"]

#: Documents that are looked up at once.
_CHUNK = 10_000


class Mixture(NamedTuple):
    """How examples of several sets are mixed.

    Attributes:
        mixing: the order of the examples.
        sizes: the number of examples of each set, which follow each other.
        weights: the weight of each set.
        prompts: the prompts of each set's queries and documents; None for the model's own.
    """

    mixing: Mixing
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    prompts: tuple[tuple[str | None, str | None], ...]


class Documents(ABC):
    """The documents of a collection."""

    @abstractmethod
    def __iter__(self) -> Iterator[Document]:
        """Stream the documents in a fixed order, from the beginning at each call.

        Raises:
            DataError: for a malformed line, a missing id or a duplicate id.
        """

    @abstractmethod
    def count(self) -> int | None:
        """The number of documents for progress bars; None if finding it out would mean reading all of them."""

    @abstractmethod
    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id; an unknown id is missing from the result."""


class Topics(ABC):
    """Queries with their relevance judgements, for search and evaluation.

    Attributes:
        relevance: the smallest relevant grade, for training and binary measures that do not name one; None for 1.
        remove_query: whether to drop the document with the query's id from results, for queries that are documents.
    """

    relevance: int | None = None
    remove_query: bool = False

    @abstractmethod
    def queries(self) -> Iterator[Query]:
        """Stream the queries, including those without a judgement if the collection has any."""

    @abstractmethod
    def qrels(self) -> Iterator[Qrel]:
        """Stream the judgements."""


class ScoredDocs(ABC):
    """Documents to re-rank, which a collection ships for each of its queries: a run that irexp did not make."""

    @abstractmethod
    def __iter__(self) -> Iterator[ScoredDoc]:
        """Stream the documents of all queries, with their scores, in any order."""


class Examples(ABC):
    """Training examples with random access, so that a sampler can visit them in any order and resume.

    Attributes:
        has_scores: whether the targets are a teacher's scores rather than relevance; None if only the examples tell.
        has_negatives: whether an example has documents beside its positive; None if only the examples tell.
        is_positive_first: whether the first document of each example is relevant; if not, nothing is known of it.
    """

    has_scores: bool | None = None
    has_negatives: bool | None = None
    is_positive_first: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples."""

    @abstractmethod
    def __getitem__(self, position: int) -> Example:
        """The example at a position; the same one at every call."""

    @abstractmethod
    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""

    @abstractmethod
    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents known to be relevant to a query, which must not be its negatives."""

    def begins_with_positive(self, position: int) -> bool:
        """Whether the first document of the example at a position is relevant; the sets of a mixture may differ."""
        return self.is_positive_first

    @property
    def mixture(self) -> Mixture | None:
        """How the examples of several sets are mixed; None if this is one set."""
        return None

    def texts(self, collection: Documents) -> Documents:
        """Where the texts of the examples' documents are found: in the collection, unless the examples hold them."""
        return collection

    def unknown_doc_ids(self, collection: Documents) -> set[str]:
        """The ids of the examples' documents whose texts are neither in the examples nor in the collection."""
        return unknown_ids(self.texts(collection), self.doc_ids())


def unknown_ids(documents: Documents, doc_ids: Iterable[str]) -> set[str]:
    """The ids of no document in a collection, whose texts are read in pieces."""
    named = sorted(doc_ids)
    unknown: set[str] = set()
    for start in range(0, len(named), _CHUNK):
        chunk = named[start : start + _CHUNK]
        unknown.update(set(chunk).difference(documents.get_many(chunk)))
    return unknown


def is_labelled(example: Example) -> bool:
    """Whether the targets are relevance, 1 for the first document and 0 for the others, not a teacher's scores."""
    return example.targets == (1.0,) + (0.0,) * (len(example.targets) - 1)
