"""The formats of documents and queries in files: where each stands, and its id and text.

For all of them an id is what `irexp.types.as_id` says.
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from irexp.dataset.collection import DataError
from irexp.dataset.sgml import contents, elements, following, plain, untagged, without
from irexp.dataset.text_file import Line, Record, lines_of, read_id, resolve

log = logging.getLogger(__name__)

Format = Literal["jsonl", "tsv", "csv", "trec"]

_ID_KEYS = ("_id", "id", "doc_id", "docno", "docid", "pid", "query_id", "qid")
_TITLE_KEYS = ("title", "headline")
_TEXT_KEYS = ("text", "contents", "body", "passage", "abstract", "query")

#: What the first line of a table, or of judgements, may call its columns.
_COLUMN_KEYS = {*_ID_KEYS, *_TITLE_KEYS, *_TEXT_KEYS, "topic", "corpus_id", "document"}

_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class FileFormat(ABC):
    """The records of a file in one format."""

    def __init__(self, path: str, fields: list[str] | None = None) -> None:
        """Nothing is read yet.

        Args:
            path: the file.
            fields: the names of what, joined by a blank, is the text; None for what usually is.
        """
        self._path, self._fields = path, fields

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Stream the records without reading them."""

    @abstractmethod
    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id and the text of a record.

        Raises:
            DataError: if it is malformed, or lacks an id or a field.
        """

    def _chosen(self, place: str) -> list[str] | None:
        if self._fields == []:
            raise DataError(f"{place}: text_fields=[] names no field; leave it out, or name one")
        return self._fields

    def _of_mapping(self, record: Mapping[str, Any], place: str) -> tuple[str, str]:
        """The id and the text of fields by their usual names, or of those that are chosen."""
        found = next((record[key] for key in _ID_KEYS if record.get(key) not in (None, "")), None)
        names = ", ".join(record).encode("utf8", "backslashreplace").decode()[:200] or "nothing"
        if found is None:
            raise DataError(f"{place}: there is no id ({', '.join(_ID_KEYS[:4])}), only {names}")
        if (fields := self._chosen(place)) is not None:
            if absent := [field for field in fields if field not in record]:
                raise DataError(f"{place}: there is no {', '.join(absent)}, only {names}")
        else:
            title = next((key for key in _TITLE_KEYS if record.get(key)), None)
            text = next((key for key in _TEXT_KEYS if key in record), None)
            if text is None:
                raise DataError(f"{place}: there is no text ({', '.join(_TEXT_KEYS[:3])}), only {names}")
            fields = [key for key in (title, text) if key is not None]
        parts = [record[field] for field in fields if record[field] is not None]
        for part in parts:
            if not isinstance(part, str):
                raise DataError(f"{place}: a text is a string, not {type(part).__name__}")
            if _HALF_A_CHARACTER.search(part):
                raise DataError(f"{place}: the text has half of a surrogate pair, as \\ud83d alone; remove it")
        return read_id(found, place), " ".join(part.strip() for part in parts if part.strip())


class JsonLines(FileFormat):
    """A JSON object a line, as BEIR has it."""

    def records(self) -> Iterator[Record]:
        """Every line that is not blank."""
        return (_as_record(line) for line in lines_of(self._path) if line.text.strip())

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id and the text under their usual names."""
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: this is not JSON ({error.msg} at column {error.colno})") from None
        except RecursionError:
            raise DataError(f"{place}: this JSON is nested too deeply") from None
        except ValueError as error:  # a number of thousands of digits
            raise DataError(f"{place}: this JSON cannot be read ({error})") from None
        if not isinstance(record, dict):
            raise DataError(f"{place}: a line is a JSON object with an id and a text, not {text.strip()[:40]!r}")
        return self._of_mapping(record, place)


class Tsv(FileFormat):
    """An id and a text a line, separated by tabs; or columns that the first line names."""

    def records(self) -> Iterator[Record]:
        """Every line that is neither blank nor the header."""
        lines = (line for line in lines_of(self._path) if line.text.strip())
        for position, line in enumerate(lines):
            if position or self._header is None:
                yield _as_record(line)

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The first column and the others, or those that are chosen: by number from 1, or by their names."""
        columns = _tabbed(text)
        if self._header is not None:
            return self._of_mapping(_by_name(self._header, columns, place), place)
        if len(columns) < 2:
            raise DataError(f"{place}: a line is an id, a tab and a text, not {text.strip()[:40]!r}")
        fields = self._chosen(place)
        numbers = range(1, len(columns)) if fields is None else [_column_number(field, place) for field in fields]
        if max(numbers) >= len(columns):
            raise DataError(f"{place}: there is no column {max(numbers)} after the id, only {len(columns) - 1}")
        return read_id(columns[0], place), " ".join(columns[number] for number in numbers)

    @cached_property
    def _header(self) -> list[str] | None:
        first = next((line for line in lines_of(self._path) if line.text.strip()), None)
        if first is None or not names_columns(_tabbed(first.text)):
            return None
        log.info("%s: the first line names the columns, and is not a document or query", first.place)
        return [_plain_name(column) for column in _tabbed(first.text)]


class Csv(FileFormat):
    """Columns that the first line names, separated by commas; a text with commas or line breaks stands in quotes."""

    def records(self) -> Iterator[Record]:
        """Every row below the header."""
        self._header  # noqa: B018 a file without one is refused
        return (record for record, _ in itertools.islice(self._rows(), 1, None))

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id and the text under their usual names."""
        return self._of_mapping(_by_name(self._header, next(csv.reader([text]), []), place), place)

    def _rows(self) -> Iterator[tuple[Record, list[str]]]:
        csv.field_size_limit(sys.maxsize)  # the module's own is 128 KiB
        taken: list[Line] = []

        def texts() -> Iterator[str]:
            for line in lines_of(self._path):
                taken.append(line)
                yield line.text

        rows = csv.reader(texts(), strict=True)
        while True:
            try:
                columns = next(rows, None)
            except csv.Error as error:
                raise DataError(
                    f"{taken[0].place}: this is not CSV ({error}); within quotes a quote is doubled"
                ) from None
            if columns is None:
                return
            if columns:
                text = "".join(line.text for line in taken)
                yield _as_record(taken[0]._replace(text=text)), columns
            taken.clear()

    @cached_property
    def _header(self) -> list[str]:
        columns = next((columns for _, columns in self._rows()), [])
        names = [_plain_name(column) for column in columns]
        if not {*names} & {*_ID_KEYS} or not {*names} & {*_TITLE_KEYS, *_TEXT_KEYS}:
            first = ",".join(columns)[:60]
            raise DataError(f"{resolve(self._path)}: a CSV file begins with a header as id,title,text, not {first!r}")
        return names


class TrecDocuments(FileFormat):
    """TREC's `<DOC>` elements with their `<DOCNO>`."""

    def records(self) -> Iterator[Record]:
        """Every element."""
        return elements(self._path, "doc")

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The document's number, and all that stands beside it or in the elements that are chosen."""
        found = contents(text, "docno")
        if not found:
            raise DataError(f"{place}: there is no id (<DOCNO>)")
        if len(found) > 1:
            raise DataError(f"{place}: {len(found)} <DOCNO> in one document; is a <DOC> missing between them?")
        if (fields := self._chosen(place)) is None:
            return read_id(untagged(found[0]), place), plain(without(text, "docno"))
        parts = {field: contents(text, re.escape(field)) for field in fields}
        if absent := [field for field, texts in parts.items() if not texts]:
            raise DataError(f"{place}: there is no element {', '.join(absent)}")
        return read_id(untagged(found[0]), place), plain(" ".join(part for texts in parts.values() for part in texts))


class TrecTopics(FileFormat):
    """TREC's topics: `<num> Number: 301`, `<title> …`; closing tags may be missing."""

    def records(self) -> Iterator[Record]:
        """Every element."""
        return elements(self._path, "top|topic")

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The topic's number and title."""
        attribute = re.match(r"""<topic\s[^>]*?\bnumber\s*=\s*["']?([^"'>]+)""", text, re.IGNORECASE)
        number = following(text, "num") or (attribute[1] if attribute else None)
        title = following(text, "title|query")
        if number is None or title is None:
            raise DataError(f"{place}: a topic has <num> and <title>")
        number = re.sub(r"^\s*number:", "", untagged(number), flags=re.IGNORECASE)
        title = re.sub("^topic: *", "", plain(title), flags=re.IGNORECASE)
        return read_id(number, place), title


def documents_in(path: str, kind: Format, fields: list[str] | None) -> FileFormat:
    """The documents of a file."""
    formats: dict[Format, type[FileFormat]] = {"jsonl": JsonLines, "tsv": Tsv, "csv": Csv, "trec": TrecDocuments}
    return formats[kind](path, fields)


def queries_in(path: str, kind: Format) -> FileFormat:
    """The queries of a file."""
    return TrecTopics(path) if kind == "trec" else documents_in(path, kind, None)


def names_columns(columns: list[str]) -> bool:
    """Whether a first line is a header: usual names of an id and of another id or a text."""
    first, *others = map(_plain_name, columns)
    return first in _COLUMN_KEYS and not _COLUMN_KEYS.isdisjoint(others)


def _plain_name(column: str) -> str:
    return column.strip().lower().replace("-", "_")


def _by_name(header: list[str], columns: list[str], place: str) -> dict[str, str]:
    if len(columns) != len(header) or len({*header}) < len(header):
        raise DataError(f"{place}: {len(columns)} columns, where the first line names {len({*header})}")
    return dict(zip(header, columns, strict=True))


def _tabbed(text: str) -> list[str]:
    return text.rstrip("\r\n").split("\t")


def _column_number(field: str, place: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", field):
        raise DataError(f"{place}: text_fields of a TSV file are numbers of columns after the id, not {field!r}")
    return int(field)


def _as_record(line: Line) -> Record:
    return Record(line.text, line.place, line.offset, line.offset + len(line.text.encode()))
