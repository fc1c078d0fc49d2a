"""What a collection is to the rest of irexp: documents to stream and look up, topics to answer, examples to learn from.

A dataset yields text and ids, never tokens. Every source streams: 8.8 million passages are never held in memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from irexp.types import Document, Example, Qrel, Query, UserError


class DataError(UserError):
    """A collection that cannot be read as it stands: the message names the file, the line and what to do."""


class Documents(ABC):
    """The documents of a collection."""

    @abstractmethod
    def __iter__(self) -> Iterator[Document]:
        """Stream the documents in a fixed order, from the beginning at each call.

        Raises:
            DataError: for a malformed line, a missing or a duplicate id.
        """

    @abstractmethod
    def count(self) -> int | None:
        """How many there are, if that can be told without reading them as documents; for progress bars."""

    @abstractmethod
    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id; an unknown id is absent from the answer."""


class Topics(ABC):
    """Queries with their relevance judgements: what is searched for and evaluated.

    Attributes:
        relevance: the smallest grade that binary measures count as relevant where they name none; None for 1.
        remove_query: whether the document whose id is the query's is not a result, as where queries are documents, too.
    """

    relevance: int | None = None
    remove_query: bool = False

    @abstractmethod
    def queries(self) -> Iterator[Query]:
        """Stream the queries; those without a judgement too, if the collection has them."""

    @abstractmethod
    def qrels(self) -> Iterator[Qrel]:
        """Stream the judgements."""


class Examples(ABC):
    """Training examples with random access, so that a sampler can visit them in any order and resume."""

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""

    @abstractmethod
    def __getitem__(self, position: int) -> Example:
        """The example at a position; the same one at every call."""

    @abstractmethod
    def doc_ids(self) -> set[str]:
        """Every document that an example names."""

    @abstractmethod
    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """Every document known to be relevant to a query, so that none of them is used as its negative."""
