"""Training examples from a file that holds their texts, so that they need no collection.

Lines are those of sentence-transformers, Tevatron and FlagEmbedding, see `irexp.dataset.example_lines`, or
tab-separated texts. Equal texts are one document or query, whose id is a digest of the text. The texts stay in the
file: in memory are at most 32 bytes per example, 16 per line and 12 per document, and the lines that were used last.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import DataError, Documents, Examples
from irexp.dataset.example_lines import NO_GRADE, SOME_HAVE_SCORES, Listed, is_header
from irexp.dataset.examples import Layout, layout_of, parsed
from irexp.dataset.in_memory import Joined
from irexp.dataset.packed import first_place
from irexp.dataset.text_file import RandomAccess, check_text, lines_of, resolve
from irexp.progress import counted
from irexp.types import Document, Example, Query

#: Lines that are kept parsed: a batch looks each of its lines up for the example, and again for its documents.
_KEPT_LINES = 512

#: The id of a text, in hexadecimal digits, see `id_of`.
_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class _Places:
    """Where the examples and documents of a file are.

    Attributes:
        starts, ends: where each line begins and ends.
        lines, ranks: the line of each example, and its number among the examples of the line.
        query_R, first_R, second_R: the relevant pairs, each once and sorted by query: the hash of the query, and both
            halves of the document's id.
        document_D, example_D: the sorted hashes of the documents, and an example that has the document.
    """

    starts: array[int]
    ends: array[int]
    lines: array[int]
    ranks: array[int]
    query_R: NDArray[np.uint64]
    first_R: NDArray[np.uint64]
    second_R: NDArray[np.uint64]
    document_D: NDArray[np.uint64]
    example_D: NDArray[np.int32]


class TextFileExamples(Examples):
    """Examples whose lines hold the texts: `(query, positive, negative, …)`, with a teacher's scores or without.

    Of an object's list with scores or grades, the document with the highest is the positive. If all lines are such
    lists and all their scores are whole numbers from 0, they are grades, and all documents above 0 are relevant.
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
        """The positives of all examples of a query, with scores or without; of lists with grades all above 0."""
        places = self._places
        if (wanted := _hash(query_id)) is None:
            return frozenset()
        start, end = (int(np.searchsorted(places.query_R, np.uint64(wanted), side)) for side in ("left", "right"))
        pairs = zip(places.first_R[start:end].tolist(), places.second_R[start:end].tolist(), strict=True)
        return frozenset(f"{first:016x}{second:016x}" for first, second in pairs)

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
        wanted = _hash(doc_id)
        if wanted is None or (place := first_place(places.document_D, wanted)) == len(places.document_D):
            return None
        texts = map(str, self.listed(int(places.example_D[place])).texts[1:])
        return next((text for text in texts if id_of(text) == doc_id), None)

    def listed(self, position: int) -> Listed:
        """An example with its texts."""
        places = self._places
        line = places.lines[position]
        return self._line(places.starts[line], places.ends[line])[places.ranks[position]]

    def _read_line(self, start: int, end: int) -> list[Listed]:
        return parsed(self._pieces.read(start, end), self._path, self._layout)

    @cached_property
    def _layout(self) -> Layout:
        return layout_of(self._path)

    @cached_property
    def _pieces(self) -> RandomAccess:
        return RandomAccess(self._path)

    @cached_property
    def _places(self) -> _Places:
        starts, ends, lines, ranks = array("q"), array("q"), array("i"), array("i")
        documents, examples, relevant, graded = array("Q"), array("i"), array("Q"), array("Q")
        scored: bool | None = None
        are_grades, without = True, None
        for line in counted(
            lines_of(self._path), unit=" lines", desc=f"check {resolve(self._path).name}", delayed=True
        ):
            if not line.text.strip():
                continue
            for rank, found in enumerate(parsed(line.text, line.place, self._layout)):
                if not starts and is_header(found.texts):
                    raise DataError(f"{line.place}: this is a header, {line.text.strip()!r}, not an example; remove it")
                query, *texts = _checked(found, line.place)
                query_id, *ids = map(id_of, (query, *texts) if rank == 0 else (query, texts[0]))  # all share the others
                if scored not in (None, found.scores is not None):
                    raise DataError(f"{line.place}: {SOME_HAVE_SCORES}")
                scored = found.scores is not None
                above_0 = found.relevant if are_grades else None
                are_grades = above_0 is not None
                without = line.place if above_0 == 0 and without is None else without
                relevant.extend(_pair(query_id, ids[0]))
                for doc_id in ids[1:above_0] if above_0 else ():
                    graded.extend(_pair(query_id, doc_id))
                for doc_id in ids:
                    documents.append(int(doc_id[:16], 16))
                    examples.append(len(lines))
                lines.append(len(starts))
                ranks.append(rank)
            starts.append(line.start)
            ends.append(line.end)
        if not lines:
            raise DataError(f"{resolve(self._path)} has no training examples")
        if are_grades and without is not None:
            raise DataError(f"{without}: {NO_GRADE}")
        document_D, first_D = np.unique(np.frombuffer(documents, dtype=np.uint64), return_index=True)
        example_D = np.frombuffer(examples, dtype=np.int32)[first_D]
        if are_grades:
            relevant.extend(graded)
        return _Places(starts, ends, lines, ranks, *_sorted_pairs(relevant), document_D, example_D)


def _pair(query_id: str, doc_id: str) -> tuple[int, int, int]:
    """The hash of a query, and both halves of a document's id."""
    return int(query_id[:16], 16), int(doc_id[:16], 16), int(doc_id[16:], 16)


def _sorted_pairs(pairs: array[int]) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """The three numbers of each pair, each pair once."""
    pair_N3 = np.frombuffer(pairs, dtype=np.uint64).reshape(-1, 3)
    pair_N3 = pair_N3[np.lexsort(pair_N3.T[::-1])]
    is_new_N = np.ones(len(pair_N3), dtype=bool)
    is_new_N[1:] = (pair_N3[1:] != pair_N3[:-1]).any(axis=1)
    query_R, first_R, second_R = np.ascontiguousarray(pair_N3[is_new_N].T)
    return query_R, first_R, second_R


def _checked(found: Listed, place: str) -> list[str]:
    """The texts of an example, the query's first.

    Raises:
        DataError: if one of them is not a text.
    """
    query, *texts = found.texts
    if found.are_ids:
        raise DataError(f"{place}: its documents are ids, not texts; read the file with dataset=triples")
    if query is None:
        raise DataError(f'{place}: its query has an id and no text; add its text as "query"')
    if not all(isinstance(text, str) and text.strip() for text in (query, *texts)):
        raise DataError(f"{place}: the query and its documents must be texts, and not empty")
    check_text(found.prompt or "", place)
    return [check_text(str(text), place) for text in (query, *texts)]


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
                if (number := int(doc_id[:16], 16)) not in seen:
                    seen.add(number)
                    yield Document(doc_id, text)

    def count(self) -> int | None:
        return None

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        found = {doc_id: self._examples.find(doc_id) for doc_id in doc_ids}
        return {doc_id: Document(doc_id, text) for doc_id, text in found.items() if text is not None}


def id_of(text: str) -> str:
    """The id of a text: 128 bits of its digest."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _hash(identifier: str) -> int | None:
    """The first 64 bits of an id; None if it is not the id of a text."""
    return int(identifier[:16], 16) if _ID.fullmatch(identifier) else None
