"""File formats of documents and queries: find the records of a file, and read the id and text of each.

All formats read ids by `irexp.types.as_id`.
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
from irexp.dataset.field_names import OF_DOCUMENTS, OF_QUERIES, FieldNames, filled, names_columns, plain_name, usual
from irexp.dataset.sgml import contents, elements, plain_text, text_after, untagged, without_elements, without_sections
from irexp.dataset.text_file import Line, Record, check_text, lines_of, read_id, resolve

log = logging.getLogger(__name__)

Format = Literal["jsonl", "tsv", "csv", "trec"]

#: What a carriage return within a line means, and what to do.
_OLD_LINE_ENDS = r"a carriage return (\r) is within the line; if lines end so, as on old Macs, convert them to \n"


class FileFormat(ABC):
    """The records of a file in one format."""

    def __init__(self, path: str, *, fields: list[str] | None = None, names: FieldNames = OF_DOCUMENTS) -> None:
        """Reads nothing yet.

        Args:
            path: the file.
            fields: the names of the fields that, joined by a space, are the text; None for the usual names.
            names: the usual names.
        """
        self._path, self._fields, self._names = path, fields, names

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Stream the records without parsing them."""

    @abstractmethod
    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id and the text of a record.

        Raises:
            DataError: if the record is malformed, or lacks an id or a field.
        """

    def unseen(self) -> set[str]:
        """The chosen fields that no record had, of those read so far; empty where a record may lack none."""
        return set()

    def _chosen(self, place: str) -> list[str] | None:
        if self._fields == []:
            raise DataError(f"{place}: text_fields=[] names no field; omit it, or name a field")
        return self._fields

    def _from_fields(self, record: Mapping[str, Any], place: str) -> tuple[str, str]:
        """The id, and the text from the chosen fields or those with the usual names."""
        names = self._names
        found = next((record[key] for key in names.ids if record.get(key) not in (None, "")), None)
        if found is None:
            raise DataError(f"{place}: there is no id ({', '.join(names.ids[:4])}), only {_shown(record)}")
        if (fields := self._chosen(place)) is not None:
            if absent := [field for field in fields if field not in record]:
                raise DataError(f"{place}: there is no {', '.join(absent)}, only {_shown(record)}")
        else:
            title = filled(record, names.titles)
            text = usual(record, names.texts) or usual(record, names.other_texts)
            if text is None:
                known = ", ".join([*names.texts, *names.other_texts][:4])
                raise DataError(f"{place}: there is no text ({known}), only {_shown(record)}")
            fields = [key for key in (title, text) if key is not None]
        parts = [record[field] for field in fields if record[field] is not None]
        for part in parts:
            if not isinstance(part, str):
                raise DataError(f"{place}: a text is a string, not {type(part).__name__}")
            check_text(part, place)
        return read_id(found, place), " ".join(part.strip() for part in parts if part.strip())


class JsonLines(FileFormat):
    """One JSON object per line, as in BEIR."""

    def records(self) -> Iterator[Record]:
        """Every line that is not empty."""
        return (Record(*line) for line in lines_of(self._path) if line.text.strip())

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id and the text under their usual names."""
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            hint = "; correct the line" + ", or download the file again, if it is damaged" * (".gz:" in place)
            raise DataError(f"{place}: this is not JSON ({error.msg} at column {error.colno}){hint}") from None
        except RecursionError:
            raise DataError(f"{place}: this JSON is nested too deeply; remove what is neither id nor text") from None
        except ValueError as error:
            limit = sys.get_int_max_str_digits()
            raise DataError(f"{place}: a number has more than {limit} digits; write it as a text, in quotes") from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: a line is a JSON object with an id and a text, not {text.strip()[:40]!r}")
        return self._from_fields(record, place)


class Tsv(FileFormat):
    """One id and text per line, separated by tabs; or columns named by the first line."""

    def records(self) -> Iterator[Record]:
        """Every line that is neither empty nor the header."""
        lines = (line for line in lines_of(self._path) if line.text.strip())
        for position, line in enumerate(lines):
            if position or self._header is None:
                yield Record(*line)

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id is the first column; the text is all others, or those chosen by number (from 1) or by name."""
        columns = _tabbed(text, place)
        if self._header is not None:
            return self._from_fields(_by_name(self._header, columns, place), place)
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
        if first is None:
            return None
        columns = _tabbed(first.text, first.place)
        if len(columns) > 1 and all(len(one) > 1 and one[0] == one[-1] == '"' for one in columns):
            raise DataError(
                f"{first.place}: the columns are in quotes, which would be part of the ids and texts of a TSV file; "
                f"write it without quotes (in pandas quoting=csv.QUOTE_NONE), or as a CSV file"
            )
        header = [plain_name(column) for column in columns]
        is_chosen = header[0] in self._names.ids and not set(self._fields or ()).isdisjoint(header)
        if names_columns(columns) or is_chosen:
            log.info("%s: the first line is a header, not a document or query", first.place)
            return header
        if columns[0].strip().replace("-", "_") in self._names.ids:
            raise DataError(
                f"{first.place}: {' '.join(columns)[:60]!r} looks like a header; its text column must be one of "
                f"{', '.join([*self._names.texts, *self._names.other_texts])}"
                f"{', or of text_fields' * (self._names is OF_DOCUMENTS)}; if it is not a header, move it down"
            )
        return None


class Csv(FileFormat):
    """Comma-separated columns, named by the first line; a text with commas or line breaks is quoted."""

    def records(self) -> Iterator[Record]:
        """Every row below the header."""
        self._header  # noqa: B018 raises if the file has none
        return (record for record, _ in itertools.islice(self._rows(), 1, None))

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The id and the text under their usual names."""
        return self._from_fields(_by_name(self._header, next(csv.reader([text]), []), place), place)

    def _rows(self) -> Iterator[tuple[Record, list[str]]]:
        csv.field_size_limit(sys.maxsize)  # the default is 128 KiB
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
                fault = f"this is not CSV ({error}); double a quote that is within quotes"
                if "new-line character" in str(error):
                    fault = f"{_OLD_LINE_ENDS}, or put the text in quotes"
                raise DataError(f"{taken[0].place}: {fault}") from None
            if columns is None:
                return
            if columns:
                text = "".join(line.text for line in taken)
                first = taken[0]
                yield Record(text, first.place, first.start, first.start + len(text.encode())), columns
            taken.clear()

    @cached_property
    def _header(self) -> list[str]:
        columns = next((columns for _, columns in self._rows()), [])
        header = [plain_name(column) for column in columns]
        if {*header}.isdisjoint(self._names.ids) or {*header}.isdisjoint(
            [*self._names.titles, *self._names.texts, *self._names.other_texts, *(self._fields or ())]
        ):
            first = ",".join(columns)[:60]
            raise DataError(f"{resolve(self._path)}: a CSV file needs a header such as id,title,text, not {first!r}")
        return header


class TrecDocuments(FileFormat):
    """TREC's `<DOC>` elements with their `<DOCNO>`; of the chosen elements a document may lack some."""

    def records(self) -> Iterator[Record]:
        """Every element."""
        return elements(self._path, "doc")

    @cached_property
    def _unseen(self) -> set[str]:
        return set(self._fields or ())

    def unseen(self) -> set[str]:
        """The chosen elements that no document had."""
        return self._unseen

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The document's number as its id; the text is everything else, or the chosen elements."""
        text = without_sections(text)
        found = contents(text, "docno")
        if not found:
            raise DataError(f"{place}: there is no id (<DOCNO>)")
        if len(found) > 1:
            raise DataError(f"{place}: {len(found)} <DOCNO> in one document; is a <DOC> missing between them?")
        if (fields := self._chosen(place)) is None:
            return read_id(untagged(found[0]), place), plain_text(without_elements(text, "docno"))
        parts = {field: contents(text, re.escape(field)) for field in fields}
        if self._unseen:
            self._unseen.difference_update(field for field, texts in parts.items() if texts)
        return read_id(untagged(found[0]), place), plain_text(
            " ".join(part for texts in parts.values() for part in texts)
        )


class TrecTopics(FileFormat):
    """TREC's topics: `<num> Number: 301`, `<title> …`; closing tags may be missing."""

    def records(self) -> Iterator[Record]:
        """Every element."""
        return elements(self._path, "top|topic")

    def read(self, text: str, place: str) -> tuple[str, str]:
        """The topic's number as its id, and its title as its text."""
        text = without_sections(text)
        attribute = re.match(r"""<topic\s[^>]*?\bnumber\s*=\s*["']?([^"'>]+)""", text, re.IGNORECASE)
        number = text_after(text, "num") or (attribute[1] if attribute else None)
        title = text_after(text, "title|query")
        if number is None or title is None:
            raise DataError(f"{place}: a topic needs <num> and <title>")
        number = re.sub(r"^\s*number:", "", untagged(number), flags=re.IGNORECASE)
        title = re.sub("^topic: *", "", plain_text(title), flags=re.IGNORECASE)
        return read_id(number, place), title


_FORMATS: dict[Format, type[FileFormat]] = {"jsonl": JsonLines, "tsv": Tsv, "csv": Csv, "trec": TrecDocuments}


def documents_in(path: str, kind: Format, fields: list[str] | None) -> FileFormat:
    """The documents of a file."""
    return _FORMATS[kind](path, fields=fields)


def queries_in(path: str, kind: Format) -> FileFormat:
    """The queries of a file."""
    return (TrecTopics if kind == "trec" else _FORMATS[kind])(path, names=OF_QUERIES)


def _by_name(header: list[str], columns: list[str], place: str) -> dict[str, str]:
    if len(columns) != len(header) or len({*header}) < len(header):
        raise DataError(f"{place}: {len(columns)} columns, but the first line names {len({*header})}")
    return dict(zip(header, columns, strict=True))


def _tabbed(text: str, place: str) -> list[str]:
    line = text.rstrip("\r\n")
    if "\r" in line and "\t" in line.partition("\r")[2]:
        raise DataError(f"{place}: {_OLD_LINE_ENDS}, or remove them from the text")
    return line.split("\t")


def _column_number(field: str, place: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", field):
        raise DataError(f"{place}: text_fields of a TSV file without a header are column numbers, not {field!r}")
    return int(field)


def _shown(record: Mapping[str, Any]) -> str:
    """The fields of a record, for a message."""
    return ", ".join(record).encode("utf8", "backslashreplace").decode()[:200] or "nothing"
