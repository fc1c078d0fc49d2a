"""The texts of a collection, for engines that take texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from irexp.index.vectors import Representation
from irexp.types import Document


class Texts:
    """The texts of streamed documents, which are never all in memory.

    Attributes:
        ids: the ids of the documents read so far, in order; complete after the first iteration.
    """

    representation: Representation = "text"

    def __init__(self, documents: Iterable[Document]) -> None:
        """Reads nothing yet."""
        self._documents = documents
        self.ids: list[str] = []

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        """Stream the texts, and record the documents' ids."""
        self.ids = []
        for document in self._documents:
            self.ids.append(document.doc_id)
            yield document.text
