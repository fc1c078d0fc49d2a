"""The usual names of fields and columns that hold the ids and texts of documents and queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class FieldNames(NamedTuple):
    """The usual names, in the order in which they are looked for.

    Attributes:
        ids: of the id; the first that is not empty counts.
        titles: of a title in front of the text.
        texts: of the text.
        other_texts: of the text, where a record has none of `texts`.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    other_texts: tuple[str, ...]


_QUERY_IDS = ("query_id", "qid")
_TEXTS = ("text", "contents", "body", "passage", "abstract", "document_text", "doc_text")
_QUERIES = ("query", "query_text", "question")

#: `_id` and `id` before `doc_id`; `pid` before `docid`, since a passage of MS MARCO v2 names its document, too.
_IDS = ("_id", "id", "doc_id", "docno", "pid", "docid")

OF_DOCUMENTS = FieldNames((*_IDS, *_QUERY_IDS), ("title", "headline"), _TEXTS, _QUERIES)

#: Beside the query a record may name a document, and hold its title and text.
OF_QUERIES = FieldNames((*_QUERY_IDS, *_IDS), (), _QUERIES, _TEXTS)

#: Column names by which the header of a table or of a qrels file is recognised.
_COLUMNS = {name for names in OF_DOCUMENTS for name in names} | {"topic", "corpus_id", "document"}


def filled(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first name of a field that holds more than whitespace."""
    for name in names:
        value = record.get(name)
        if value and not (isinstance(value, str) and value.isspace()):
            return name
    return None


def usual(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first name of a field that holds more than whitespace, or of an empty one if all are."""
    return filled(record, names) or next((name for name in names if name in record), None)


def names_columns(columns: list[str]) -> bool:
    """Whether a first line is a header: it has usual column names, first of an id, then of another id or a text."""
    first, *others = map(plain_name, columns)
    return first in _COLUMNS and not _COLUMNS.isdisjoint(others)


def plain_name(column: str) -> str:
    """A column's name in lower case, with underscores."""
    return column.strip().lower().replace("-", "_")
