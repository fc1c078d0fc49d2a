"""Training examples that are made from others: with further negatives, or with a teacher's scores."""

from __future__ import annotations

from irexp.dataset.collection import Documents, Examples, Mixture


class DerivedExamples(Examples):
    """What is the same as of the examples that they are made from; a subclass makes each example."""

    def __init__(self, examples: Examples) -> None:
        """Remember the examples."""
        self._examples = examples
        self.is_positive_first = examples.is_positive_first

    def __len__(self) -> int:
        return len(self._examples)

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""
        return self._examples.doc_ids()

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents known to be relevant to a query, according to the examples."""
        return self._examples.relevant_doc_ids(query_id)

    def begins_with_positive(self, position: int) -> bool:
        """As in the examples."""
        return self._examples.begins_with_positive(position)

    @property
    def mixture(self) -> Mixture | None:
        """That of the examples."""
        return self._examples.mixture

    def texts(self, collection: Documents) -> Documents:
        """The texts of the examples' documents, and those of the collection."""
        return self._examples.texts(collection)
