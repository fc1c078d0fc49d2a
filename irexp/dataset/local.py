"""Collections from files: documents in JSONL (BEIR), TSV, CSV or TREC SGML; queries in the same formats or TREC topics.

The format is given or follows from the file's name (`.jsonl`, `.tsv`, `.csv`, `.trec` …, each also as `.gz`). A file is
checked once from beginning to end before its first use, so that malformed lines, missing ids and duplicate ids are
found before any work is done; 24 bytes per document stay in memory.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import DataError, Documents, Topics
from irexp.dataset.local_format import FileFormat, Format, documents_in, queries_in
from irexp.dataset.packed import first_place, hash_of
from irexp.dataset.qrels import read_qrels
from irexp.dataset.text_file import RandomAccess, resolve
from irexp.progress import progress
from irexp.types import Document, Qrel, Query

log = logging.getLogger(__name__)

#: Documents between two updates of the progress bar.
_TICK = 10_000


class LocalDocuments(Documents):
    """The documents of one file."""

    def __init__(
        self,
        path: str,
        *,
        format: Literal["jsonl", "tsv", "csv", "trec"] | None = None,
        text_fields: list[str] | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            path: the file; a final `.gz` may be omitted.
            format: the file's format; None to infer it from the name.
            text_fields: the fields or SGML tags whose texts, joined by a space, are the document; None for the title
                and the text under their usual names. A document may lack some of the tags. For TSV without a header:
                numbers of columns after the id, from 1.
        """
        self._path, self._format, self._text_fields = path, format, text_fields

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents in the order of the file."""
        self._index  # noqa: B018 finds every error in the file before the first document is yielded
        for record in self._file.records():
            yield Document(*self._file.read(record.text, record.place))

    def count(self) -> int:
        """The number of documents; the first call reads the file."""
        return len(self._index[0])

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id."""
        hash_N, start_N, end_N = self._index
        found: dict[str, Document] = {}
        for doc_id in doc_ids:
            wanted = hash_of(doc_id)
            position = first_place(hash_N, wanted)
            while position < len(hash_N) and int(hash_N[position]) == wanted:
                text = self._pieces.read(int(start_N[position]), int(end_N[position]))
                document = Document(*self._file.read(text, self._path))
                if document.doc_id == doc_id:
                    found[doc_id] = document
                    break
                position += 1
        return found

    def first_of(self, doc_ids: Collection[str] | None) -> str | None:
        """The first id of some, or of any, in the file, which is not read further; None if there is none."""
        record = None
        for record in self._file.records():
            doc_id, _ = self._file.read(record.text, record.place)
            if doc_ids is None or doc_id in doc_ids:
                return doc_id
        if record is None:
            raise DataError(f"{resolve(self._path)} has no documents")
        return None

    @cached_property
    def _file(self) -> FileFormat:
        return documents_in(self._path, self._format or _format(self._path), self._text_fields)

    @cached_property
    def _pieces(self) -> RandomAccess:
        return RandomAccess(self._path)

    @cached_property
    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """The sorted hashes of the ids, and where the document of each hash begins and ends in the file."""
        hashes, starts, ends = array("Q"), array("q"), array("q")
        empty, first_empty = 0, ""
        with progress(unit=" documents", desc=f"check {resolve(self._path).name}", delayed=True) as bar:
            for record in self._file.records():
                doc_id, text = self._file.read(record.text, record.place)
                if not text.strip():
                    empty, first_empty = empty + 1, first_empty or f"{record.place} ({doc_id})"
                hashes.append(hash_of(doc_id))
                starts.append(record.start)
                ends.append(record.end)
                if len(hashes) % _TICK == 0:
                    bar.update(_TICK)
        if not hashes:
            raise DataError(f"{resolve(self._path)} has no documents")
        if unseen := self._file.unseen():
            raise DataError(f"{resolve(self._path)}: no document has an element {', '.join(sorted(unseen))}")
        if empty:
            log.warning("%d documents have no text, the first at %s; they are kept", empty, first_empty)
        hash_N = np.frombuffer(hashes, dtype=np.uint64)
        order_N = np.argsort(hash_N, kind="stable")
        hash_N = hash_N[order_N]
        repeated_N = hash_N[1:][hash_N[1:] == hash_N[:-1]]
        if len(repeated_N):
            self._raise_if_duplicate(set(repeated_N.tolist()))
        return (
            hash_N,
            np.frombuffer(starts, dtype=np.int64)[order_N],
            np.frombuffer(ends, dtype=np.int64)[order_N],
        )

    def _raise_if_duplicate(self, hashes: set[int]) -> None:
        """Compare the ids of equal hashes, which are almost always, but not necessarily, equal.

        Raises:
            DataError: if two ids are equal.
        """
        seen: dict[str, str] = {}
        for record in self._file.records():
            doc_id, _ = self._file.read(record.text, record.place)
            if hash_of(doc_id) in hashes:
                if doc_id in seen:
                    raise DataError(f"{record.place}: the document id {doc_id[:80]!r} already occurs at {seen[doc_id]}")
                seen[doc_id] = record.place


class LocalTopics(Topics):
    """Queries of one file with the judgements of another."""

    def __init__(
        self,
        queries_path: str,
        *,
        qrels_path: str | None = None,
        judged_only: bool = True,
        relevance: int | None = None,
        remove_query: bool | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            queries_path: JSONL (BEIR), TSV (`id text`), CSV or TREC topics (`.trec`, `.sgml`, `.xml`), or any as `.gz`.
            qrels_path: BEIR's TSV (`query-id corpus-id score` with a header) or TREC's four columns; None for none.
            judged_only: whether to use only queries that have a judgement; needed for BEIR, whose queries.jsonl holds
                the queries of all splits.
            relevance: the smallest relevant grade, for training and binary measures that do not name one; None for 1.
            remove_query: whether to drop the document with the query's id from results; None for no.
        """
        self._queries_path, self._qrels_path, self._judged_only = queries_path, qrels_path, judged_only
        self.relevance, self.remove_query = relevance, bool(remove_query)

    def queries(self) -> Iterator[Query]:
        """Stream the queries in the order of the file."""
        judged = {qrel.query_id for qrel in self._qrels} if self._judged_only and self._qrels_path else None
        seen: dict[str, str] = {}
        empty = 0
        file = queries_in(self._queries_path, _format(self._queries_path))
        for record in file.records():
            query = Query(*file.read(record.text, record.place))
            if first := seen.get(query.query_id):
                raise DataError(f"{record.place}: the query id {query.query_id[:80]!r} already occurs at {first}")
            seen[query.query_id] = record.place
            if judged is None or query.query_id in judged:
                empty += not query.text.strip()
                yield query
        if not seen:
            raise DataError(f"{resolve(self._queries_path)} has no queries")
        if empty:
            log.warning("%d queries of %s have no text; they are kept", empty, self._queries_path)
        if judged is not None and (without := judged - seen.keys()):
            log.warning(
                "%d judged queries of %s are not in %s, such as %r; they count as queries without results",
                len(without),
                self._qrels_path,
                self._queries_path,
                min(without),
            )

    def qrels(self) -> Iterator[Qrel]:
        """Stream the judgements."""
        return iter(self._qrels)

    @cached_property
    def _qrels(self) -> list[Qrel]:
        return read_qrels(self._qrels_path) if self._qrels_path else []


_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".tsv": "tsv",
    ".csv": "csv",
    ".txt": "tsv",
    ".trec": "trec",
    ".sgml": "trec",
    ".sgm": "trec",
    ".xml": "trec",
}


def _format(path: str) -> Format:
    """The format according to a file's name."""
    file = resolve(path)
    suffix = "." + file.name.removesuffix(".gz").rpartition(".")[2]
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise DataError(f"{file}: the name does not tell the format; rename it to end in one of {known}")
    return _SUFFIXES[suffix]
