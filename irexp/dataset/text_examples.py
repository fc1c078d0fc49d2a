"""Training examples from a file that holds their texts, so that they need no collection.

Lines are those of sentence-transformers, Tevatron and FlagEmbedding, see `irexp.dataset.example_lines`, or
tab-separated texts. Equal texts are one document or query, whose id is a digest of the text. The texts stay in the
file: in memory are 28 bytes per example, 16 per line and 12 per document, and the lines that were used last.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import DataError, Documents, Examples
from irexp.dataset.example_lines import SOME_HAVE_SCORES, Listed, is_header
from irexp.dataset.examples import is_json_lines, parsed
from irexp.dataset.in_memory import Joined
from irexp.dataset.packed import first_place
from irexp.dataset.text_file import RandomAccess, check_text, lines_of, resolve
from irexp.progress import counted
from irexp.types import Document, Example, Query

#: Lines that are kept parsed: a batch looks each of its lines up for the example, and again for its documents.
_KEPT_LINES = 512


@dataclass(frozen=True)
class _Places:
    """Where the examples and documents of a file are.

    Attributes:
        starts, ends: where each line begins and ends.
        lines, ranks: the line of each example, and its number among the examples of the line.
        query_N, positive_N, example_N: the sorted hashes of the examples' queries, then of their positives, and the
            example of each.
        document_D, example_D: the sorted hashes of the documents, and an example that has the document.
    """

    starts: array[int]
    ends: array[int]
    lines: array[int]
    ranks: array[int]
    query_N: NDArray[np.uint64]
    positive_N: NDArray[np.uint64]
    example_N: NDArray[np.int32]
    document_D: NDArray[np.uint64]
    example_D: NDArray[np.int32]


class TextFileExamples(Examples):
    """Examples whose lines hold the texts: `(query, positive, negative, …)`, with a teacher's scores or without.

    Of an object's list with scores or grades, the document with the highest is the positive.
    """

    def __init__(self, path: str) -> None:
        """Reads nothing before the first example is requested.

        Args:
            path: the file, `.jsonl` or tab-separated, optionally gzip-compressed.
        """
        self._path = path
        self._line = lru_cache(_KEPT_LINES)(self._read_line)

    def __getstate__(self) -> dict[str, Any]:
        """Without the lines that are kept and the open file, which belong to this process."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_line", "_pieces")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With no lines yet."""
        self.__dict__.update(state)
        self._line = lru_cache(_KEPT_LINES)(self._read_line)

    def __len__(self) -> int:
        return len(self._places.lines)

    def __getitem__(self, position: int) -> Example:
        found = self.listed(position)
        query, *documents = map(str, found.texts)
        targets = found.scores or [1.0] + [0.0] * (len(documents) - 1)
        ids = tuple(map(id_of, documents))
        return Example(Query(id_of(query), query), ids, tuple(targets), found.prompt, found.document_prompt)

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""
        return {doc_id for position in range(len(self)) for doc_id in self[position].doc_ids}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The positives of all examples of a query, with scores or without."""
        places, wanted = self._places, np.uint64(_hash(query_id))
        inside = slice(*(int(np.searchsorted(places.query_N, wanted, side)) for side in ("left", "right")))
        _, first = np.unique(places.positive_N[inside], return_index=True)  # a query has few, in thousands of triples
        found = [self[position] for position in places.example_N[inside][first].tolist()]
        return frozenset(example.doc_ids[0] for example in found if example.query.query_id == query_id)

    def texts(self, collection: Documents) -> Documents:
        """The texts of the file, then those of the collection."""
        return Joined(collection, self.documents)

    def unknown_doc_ids(self, collection: Documents) -> set[str]:
        """None: the examples hold all texts."""
        return set()

    @property
    def documents(self) -> Documents:
        """The documents of the examples."""
        return _DocumentsOf(self)

    def find(self, doc_id: str) -> str | None:
        """The text of a document; None if no example has it."""
        places = self._places
        place = first_place(places.document_D, _hash(doc_id))
        if place == len(places.document_D):
            return None
        texts = map(str, self.listed(int(places.example_D[place])).texts[1:])
        return next((text for text in texts if id_of(text) == doc_id), None)

    def listed(self, position: int) -> Listed:
        """An example with its texts."""
        places = self._places
        line = places.lines[position]
        return self._line(places.starts[line], places.ends[line])[places.ranks[position]]

    def _read_line(self, start: int, end: int) -> list[Listed]:
        return parsed(self._pieces.read(start, end), self._path, is_json=self._is_json)

    @cached_property
    def _is_json(self) -> bool:
        return is_json_lines(self._path)

    @cached_property
    def _pieces(self) -> RandomAccess:
        return RandomAccess(self._path)

    @cached_property
    def _places(self) -> _Places:
        starts, ends, lines, ranks = array("q"), array("q"), array("i"), array("i")
        queries, positives, documents, examples = array("Q"), array("Q"), array("Q"), array("i")
        scored: bool | None = None
        for line in counted(
            lines_of(self._path), unit=" lines", desc=f"check {resolve(self._path).name}", delayed=True
        ):
            if not line.text.strip():
                continue
            for rank, found in enumerate(parsed(line.text, line.place, is_json=self._is_json)):
                query, *texts = found.texts
                if not starts and not self._is_json and is_header(found.texts):
                    raise DataError(f"{line.place}: this is a header, {line.text.strip()!r}, not an example; remove it")
                if query is None:
                    raise DataError(f'{line.place}: its query has an id and no text; add its text as "query"')
                if not all(isinstance(text, str) and text.strip() for text in (query, *texts)):
                    raise DataError(f"{line.place}: the query and its documents must be texts, and not empty")
                for text in (query, *texts, found.prompt or ""):
                    check_text(str(text), line.place)
                if scored not in (None, found.scores is not None):
                    raise DataError(f"{line.place}: {SOME_HAVE_SCORES}")
                scored = found.scores is not None
                queries.append(_hash(id_of(str(query))))
                positives.append(_hash(id_of(str(texts[0]))))
                for text in texts if rank == 0 else texts[:1]:  # all share their negatives
                    documents.append(_hash(id_of(str(text))))
                    examples.append(len(lines))
                lines.append(len(starts))
                ranks.append(rank)
            starts.append(line.start)
            ends.append(line.end)
        if not lines:
            raise DataError(f"{resolve(self._path)} has no training examples")
        document_D, first_D = np.unique(np.frombuffer(documents, dtype=np.uint64), return_index=True)
        query_N, positive_N = np.frombuffer(queries, dtype=np.uint64), np.frombuffer(positives, dtype=np.uint64)
        order_N = np.lexsort((positive_N, query_N))
        example_D = np.frombuffer(examples, dtype=np.int32)[first_D]
        return _Places(
            starts,
            ends,
            lines,
            ranks,
            query_N[order_N],
            positive_N[order_N],
            order_N.astype(np.int32),
            document_D,
            example_D,
        )


class ExampleDocuments(Documents):
    """The documents of a file of examples as a collection."""

    def __init__(self, path: str) -> None:
        """Reads nothing yet.

        Args:
            path: the file, see `TextFileExamples`.
        """
        self._documents = TextFileExamples(path).documents

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents, each once, in the order of the file."""
        return iter(self._documents)

    def count(self) -> int | None:
        """Unknown: it would mean reading all of them."""
        return self._documents.count()

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look texts up in the file."""
        return self._documents.get_many(doc_ids)


class _DocumentsOf(Documents):
    """The documents of examples."""

    def __init__(self, examples: TextFileExamples) -> None:
        self._examples = examples

    def __iter__(self) -> Iterator[Document]:
        seen: set[int] = set()
        for position in range(len(self._examples)):
            for text in map(str, self._examples.listed(position).texts[1:]):
                doc_id = id_of(text)
                if _hash(doc_id) not in seen:
                    seen.add(_hash(doc_id))
                    yield Document(doc_id, text)

    def count(self) -> int | None:
        return None

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        found = {doc_id: self._examples.find(doc_id) for doc_id in doc_ids}
        return {doc_id: Document(doc_id, text) for doc_id, text in found.items() if text is not None}


def id_of(text: str) -> str:
    """The id of a text: 128 bits of its digest."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _hash(identifier: str) -> int:
    """The first 64 bits of an id; 0 for an id that is not a digest."""
    try:
        return int(identifier[:16], 16)
    except ValueError:
        return 0
