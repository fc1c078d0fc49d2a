"""Collections of ir_datasets (MacAvaney et al. 2021, arXiv:2103.02280), by dataset id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from irexp.artifact.resource import Resource
from irexp.dataset.collection import DataError, Documents, ScoredDocs, Topics
from irexp.dataset.examples import ListedExamples
from irexp.dataset.irds_part import IrdsPart, downloading, open_part
from irexp.types import Document, Qrel, Query, ScoredDoc


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
        with downloading(self._dataset_id):
            for doc in open_part(self._dataset_id, "docs").docs_iter():
                yield Document(doc.doc_id, doc.default_text())

    def count(self) -> int | None:
        """The number of documents according to ir_datasets."""
        with downloading(self._dataset_id):
            count: int | None = open_part(self._dataset_id, "docs").docs_count()
        return count

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id; ir_datasets builds its document store at the first call."""
        with downloading(self._dataset_id):
            found = self._own_store().get_many(doc_ids)
        return {doc_id: Document(doc_id, doc.default_text()) for doc_id, doc in found.items()}

    def _own_store(self) -> Any:
        """A store opened by this process: a forked one would share the file position with its parent."""
        if self._owner != os.getpid():
            self._store, self._owner = open_part(self._dataset_id, "docs").docs_store(), os.getpid()
        return self._store

    def resources(self) -> list[Resource]:
        """The documents."""
        return [IrdsPart(self._dataset_id, "docs")]


class IrdsTopics(Topics):
    """The queries and judgements of a collection."""

    def __init__(self, dataset_id: str, *, relevance: int | None = None, remove_query: bool | None = None) -> None:
        """Reads nothing yet.

        Args:
            dataset_id: the collection, or a subset of it.
            relevance: the smallest relevant grade, for training and binary measures that do not name one; None for 1.
            remove_query: whether to drop the document with the query's id from results; None for no.
        """
        self._dataset_id = dataset_id
        self.relevance, self.remove_query = relevance, bool(remove_query)

    def queries(self) -> Iterator[Query]:
        """Stream the queries."""
        with downloading(self._dataset_id):
            for query in open_part(self._dataset_id, "queries").queries_iter():
                yield Query(query.query_id, query.default_text())

    def qrels(self) -> Iterator[Qrel]:
        """Stream the judgements, if the collection has any."""
        dataset = open_part(self._dataset_id, "queries")
        if dataset.has_qrels():
            with downloading(self._dataset_id):
                for qrel in dataset.qrels_iter():
                    yield Qrel(qrel.query_id, qrel.doc_id, int(qrel.relevance))

    def resources(self) -> list[Resource]:
        """The queries, and the judgements if the collection has any."""
        has_qrels = open_part(self._dataset_id, "queries").has_qrels()
        return [IrdsPart(self._dataset_id, "queries"), *([IrdsPart(self._dataset_id, "qrels")] if has_qrels else [])]


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
        with downloading(self._dataset_id):
            for number, pair in enumerate(open_part(self._dataset_id, "docpairs").docpairs_iter(), 1):
                yield f"{self._dataset_id}, triple {number}", [pair.query_id, pair.doc_id_a, pair.doc_id_b], None

    def resources(self) -> list[Resource]:
        """The triples, and the queries that they name."""
        return [IrdsPart(self._dataset_id, "docpairs"), IrdsPart(self._dataset_id, "queries")]


class IrdsScoredDocs(ScoredDocs):
    """The documents to re-rank (`scoreddocs`) of a collection, such as the official top 1,000 of TREC Deep Learning."""

    def __init__(self, dataset_id: str | None) -> None:
        """Reads nothing yet.

        Args:
            dataset_id: a collection with scoreddocs; None, for queries that are not of ir_datasets, is refused.
        """
        if dataset_id is None:
            raise DataError("the queries are not of ir_datasets, so no candidates are known; use re_rank=bm25")
        self._dataset_id = dataset_id

    def __iter__(self) -> Iterator[ScoredDoc]:
        """Stream the documents; MS MARCO's have no scores, and all get 0."""
        with downloading(self._dataset_id):
            for scored in open_part(self._dataset_id, "scoreddocs").scoreddocs_iter():
                yield ScoredDoc(scored.query_id, scored.doc_id, float(scored.score))

    def __str__(self) -> str:
        """Its name in messages."""
        return f"the scoreddocs of {self._dataset_id}"

    def resources(self) -> list[Resource]:
        """The documents to re-rank."""
        return [IrdsPart(self._dataset_id, "scoreddocs")]
