"""The texts of a collection, as an engine that reads texts is built from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from irexp.index.vectors import Representation
from irexp.types import Document


class Texts:
    """Documents that are streamed, and never all in memory.

    Attributes:
        ids: of the documents that were read, in their order; complete after they were read once.
    """

    representation: Representation = "text"

    def __init__(self, documents: Iterable[Document]) -> None:
        """Reads nothing yet."""
        self._documents = documents
        self.ids: list[str] = []

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        """The texts, each once its document's id is noted."""
        self.ids = []
        for document in self._documents:
            self.ids.append(document.doc_id)
            yield document.text
