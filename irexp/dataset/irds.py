"""Collections of ir_datasets (MacAvaney et al. 2021, arXiv:2103.02280), by dataset id."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from irexp.dataset.collection import DataError, Documents, Topics
from irexp.dataset.examples import ListedExamples
from irexp.types import Document, Qrel, Query


class IrdsDocuments(Documents):
    """The documents of a collection; the first use downloads it."""

    def __init__(self, dataset_id: str) -> None:
        """Reads nothing yet.

        Args:
            dataset_id: the whole collection (`msmarco-passage`), not a subset, so that all subsets share one encoding.
        """
        self._dataset_id = dataset_id
        self._store: Any = None
        self._owner: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the store, whose open files belong to this process."""
        return {**self.__dict__, "_store": None, "_owner": None}

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents."""
        with _downloading(self._dataset_id):
            for doc in _open(self._dataset_id, "docs").docs_iter():
                yield Document(doc.doc_id, doc.default_text())

    def count(self) -> int | None:
        """The number of documents according to ir_datasets."""
        with _downloading(self._dataset_id):
            count: int | None = _open(self._dataset_id, "docs").docs_count()
        return count

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id; ir_datasets builds its document store at the first call."""
        with _downloading(self._dataset_id):
            found = self._own_store().get_many(doc_ids)
        return {doc_id: Document(doc_id, doc.default_text()) for doc_id, doc in found.items()}

    def _own_store(self) -> Any:
        """A store opened by this process: a forked one would share the file position with its parent."""
        if self._owner != os.getpid():
            self._store, self._owner = _open(self._dataset_id, "docs").docs_store(), os.getpid()
        return self._store


class IrdsTopics(Topics):
    """The queries and judgements of a collection."""

    def __init__(self, dataset_id: str, *, relevance: int | None = None, remove_query: bool | None = None) -> None:
        """Reads nothing yet.

        Args:
            dataset_id: the collection, or a subset of it.
            relevance: the smallest relevant grade for binary measures that do not name one; None for 1.
            remove_query: whether to drop the document with the query's id from results; None for no.
        """
        self._dataset_id = dataset_id
        self.relevance, self.remove_query = relevance, bool(remove_query)

    def queries(self) -> Iterator[Query]:
        """Stream the queries."""
        with _downloading(self._dataset_id):
            for query in _open(self._dataset_id, "queries").queries_iter():
                yield Query(query.query_id, query.default_text())

    def qrels(self) -> Iterator[Qrel]:
        """Stream the judgements, if the collection has any."""
        dataset = _open(self._dataset_id, "queries")
        if dataset.has_qrels():
            with _downloading(self._dataset_id):
                for qrel in dataset.qrels_iter():
                    yield Qrel(qrel.query_id, qrel.doc_id, int(qrel.relevance))


class IrdsExamples(ListedExamples):
    """The training triples (`docpairs`) of a collection: query, positive, negative."""

    has_scores = False

    def __init__(self, dataset_id: str) -> None:
        """Reads nothing yet.

        Args:
            dataset_id: a collection with docpairs, such as `msmarco-passage/train/triples-small`.
        """
        super().__init__(IrdsTopics(dataset_id))
        self._dataset_id = dataset_id

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The triples, in the collection's order."""
        with _downloading(self._dataset_id):
            for number, pair in enumerate(_open(self._dataset_id, "docpairs").docpairs_iter(), 1):
                yield f"{self._dataset_id}, triple {number}", [pair.query_id, pair.doc_id_a, pair.doc_id_b], None


@contextmanager
def _downloading(dataset_id: str) -> Iterator[None]:
    """Turn a failed download of ir_datasets into a one-line DataError."""
    try:
        yield
    except RuntimeError as error:
        if "download" not in str(error):
            raise
        raise DataError(
            f"the files of {dataset_id} cannot be downloaded ({type(error).__name__}: {str(error)[:120]} …); try again "
            f"with a network, or use local files with dataset=local or dataset=files"
        ) from error


def _open(dataset_id: str, part: str) -> Any:
    """A collection that has the required part: docs, queries or docpairs.

    Raises:
        DataError: if the id is unknown (naming similar ones), or the collection lacks the part.
    """
    import ir_datasets

    try:
        dataset = ir_datasets.load(dataset_id)
    except KeyError:
        near = nearest_id(dataset_id)
        hint = f"; did you mean {near}?" if near else "; ir-datasets.com lists them"
        raise DataError(f"ir_datasets has no collection {dataset_id!r}{hint}") from None
    if not getattr(dataset, f"has_{part}")():
        raise DataError(f"the collection {dataset_id} of ir_datasets has no {part}; ir-datasets.com says which has")
    return dataset


def nearest_id(dataset_id: str) -> str | None:
    """The id of ir_datasets that a text is or nearly is; several in one string, None if none is near."""
    import ir_datasets

    try:
        ir_datasets.load(dataset_id)
    except KeyError:
        known = [str(name) for name in ir_datasets.registry]
        return " or ".join(difflib.get_close_matches(dataset_id, known, n=3, cutoff=0.5)) or None
    return dataset_id
