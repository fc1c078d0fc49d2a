"""Further queries and collections on which a training is validated, beside the development queries of its dataset."""

from __future__ import annotations

from irexp.artifact.resource import Resource
from irexp.dataset.collection import Documents, Topics
from irexp.dataset.irds import IrdsDocuments, IrdsTopics
from irexp.dataset.local import LocalDocuments, LocalTopics


class ValidationSet:
    """Queries with judgements, and the collection in which they are searched."""

    def __init__(self, topics: Topics, *, documents: Documents | None = None) -> None:
        """Reads nothing.

        Args:
            topics: the queries and judgements.
            documents: their collection; None for that of the dataset.
        """
        self.topics, self.documents = topics, documents


class LocalValidationSet(ValidationSet):
    """A collection in files."""

    def __init__(
        self,
        documents_path: str,
        queries_path: str,
        qrels_path: str,
        *,
        relevance: int | None = None,
        remove_query: bool | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            documents_path: as of `LocalDocuments`, such as a corpus.jsonl in BEIR's layout.
            queries_path: as of `LocalTopics`.
            qrels_path: the judgements; only judged queries are used.
            relevance: the smallest relevant grade for binary measures that do not name one; None for 1.
            remove_query: whether to drop the document with the query's id from results; None for no.
        """
        super().__init__(
            LocalTopics(queries_path, qrels_path=qrels_path, relevance=relevance, remove_query=remove_query),
            documents=LocalDocuments(documents_path),
        )


class IrdsValidationSet(ValidationSet):
    """A collection of ir_datasets, by its id."""

    def __init__(self, dataset_id: str, *, relevance: int | None = None, remove_query: bool | None = None) -> None:
        """Reads nothing yet; the first use downloads it.

        Args:
            dataset_id: the collection, or a subset of it; its documents are searched.
            relevance: the smallest relevant grade for binary measures that do not name one; None for 1.
            remove_query: whether to drop the document with the query's id from results; None for no.
        """
        super().__init__(
            IrdsTopics(dataset_id, relevance=relevance, remove_query=remove_query), documents=IrdsDocuments(dataset_id)
        )
        self._dataset_id = dataset_id

    def resources(self) -> list[Resource]:
        """The documents, queries and judgements."""
        parts = IrdsDocuments(self._dataset_id), IrdsTopics(self._dataset_id)
        return [resource for part in parts for resource in part.resources()]
