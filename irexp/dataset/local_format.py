"""The formats of documents and queries in files: records with their place, and what is read of each."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from irexp.dataset.collection import DataError
from irexp.dataset.text_file import lines_of
from irexp.types import Document, Query

Format = Literal["jsonl", "tsv", "trec"]

_ID_KEYS = ("_id", "id", "doc_id", "docno", "docid", "query_id", "qid")
_TITLE_KEYS = ("title", "headline")
_TEXT_KEYS = ("text", "contents", "body", "passage", "abstract", "query")

_DOC_BEGIN, _DOC_END = re.compile(r"\s*<doc\b[^>]*>", re.IGNORECASE), re.compile(r"</doc>\s*$", re.IGNORECASE)
_TOP_BEGIN, _TOP_END = re.compile(r"\s*<top(ic)?\b[^>]*>", re.IGNORECASE), re.compile(r"</top(ic)?>\s*$", re.IGNORECASE)


class Record(NamedTuple):
    """A document as it stands in its file; `start` and `end` are offsets in bytes."""

    text: str
    place: str
    start: int
    end: int


def document_records(path: str, kind: Format) -> Iterator[Record]:
    """Stream the documents of a file without reading them."""
    return _blocks(path, _DOC_BEGIN, _DOC_END) if kind == "trec" else _lines(path)


def _lines(path: str) -> Iterator[Record]:
    for line in lines_of(path):
        if line.text.strip():
            yield Record(line.text, line.place, line.offset, line.offset + len(line.text.encode()))


def _blocks(path: str, begin: re.Pattern[str], end: re.Pattern[str]) -> Iterator[Record]:
    """The elements of a file without a root, such as TREC's `<DOC>` … `</DOC>`."""
    lines: list[str] = []
    place, start = "", 0
    for line in lines_of(path):
        if begin.match(line.text):
            if lines:
                raise DataError(f"{line.place}: an element begins before the one at {place} has ended")
            place, start = line.place, line.offset
        if place:
            lines.append(line.text)
            if end.search(line.text.rstrip()):
                text = "".join(lines)
                yield Record(text, place, start, start + len(text.encode()))
                lines, place = [], ""
    if lines:
        raise DataError(f"{place}: the element that begins here has no end; is the file cut off?")


def parse_document(text: str, kind: Format, fields: list[str] | None, place: str) -> Document:
    """Read one record.

    Raises:
        DataError: if it is malformed, lacks an id or a field.
    """
    if kind == "jsonl":
        record = _json(text, place)
        return Document(_id(record, place), _text_of(record, fields, place))
    if kind == "tsv":
        columns = _columns(text, place)
        return Document(columns[0], _tsv_text(columns, fields, place))
    tags = {tag.lower(): content for tag, content in _elements(text)}
    return Document(_id(tags, place), _text_of(tags, fields, place, is_sgml=text))


def parse_queries(path: str, kind: Format) -> Iterator[tuple[Query, str]]:
    """Stream the queries of a file, each with its place."""
    if kind == "trec":
        for record in _blocks(path, _TOP_BEGIN, _TOP_END):
            yield _topic(record), record.place
        return
    for record in _lines(path):
        if kind == "jsonl":
            content = _json(record.text, record.place)
            yield Query(_id(content, record.place), _text_of(content, None, record.place)), record.place
        else:
            columns = _columns(record.text, record.place)
            yield Query(columns[0], " ".join(columns[1:])), record.place


def _json(text: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: this is no JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(record, dict):
        raise DataError(f"{place}: a line is a JSON object with an id and a text, not {text.strip()[:40]!r}")
    return record


def _columns(text: str, place: str) -> list[str]:
    columns = text.rstrip("\r\n").split("\t")
    if len(columns) < 2:
        raise DataError(f"{place}: a line is an id, a tab and a text, not {text.strip()[:40]!r}")
    if not columns[0].strip():
        raise DataError(f"{place}: the id is empty")
    return columns


def _tsv_text(columns: list[str], fields: list[str] | None, place: str) -> str:
    if fields is None:
        return " ".join(columns[1:])
    numbers = [int(field) for field in fields]
    if max(numbers) >= len(columns):
        raise DataError(f"{place}: there is no column {max(numbers)} behind the id, only {len(columns) - 1}")
    return " ".join(columns[number] for number in numbers)


def _elements(text: str) -> list[tuple[str, str]]:
    """The innermost elements of an SGML record."""
    return re.findall(r"<(\w+)[^>]*>([^<]*)</\1>", text)


def _id(record: dict[str, Any], place: str) -> str:
    found = next((record[key] for key in _ID_KEYS if record.get(key) not in (None, "")), None)
    if found is None:
        raise DataError(f"{place}: there is no id ({', '.join(_ID_KEYS[:4])}), only {', '.join(record) or 'nothing'}")
    return str(found).strip()


def _text_of(record: dict[str, Any], fields: list[str] | None, place: str, *, is_sgml: str = "") -> str:
    """The title and the text, or the fields that are named, joined by a blank."""
    if fields is not None:
        if absent := [field for field in fields if field not in record]:
            raise DataError(f"{place}: there is no {', '.join(absent)}, only {', '.join(record)}")
        parts = [record[field] for field in fields]
    elif is_sgml:
        without_id = re.sub(r"<docno>.*?</docno>", " ", is_sgml, flags=re.IGNORECASE | re.DOTALL)
        parts = [re.sub(r"<[^>]+>", " ", without_id)]
    else:
        title = next((record[key] for key in _TITLE_KEYS if record.get(key)), "")
        key = next((key for key in _TEXT_KEYS if key in record), None)
        if key is None:
            raise DataError(f"{place}: there is no text ({', '.join(_TEXT_KEYS[:3])}), only {', '.join(record)}")
        parts = [title, record[key]]
    if wrong := next((part for part in parts if part is not None and not isinstance(part, str)), None):
        raise DataError(f"{place}: a text is a string, not {str(wrong)[:40]!r}")
    joined = " ".join(part.strip() for part in parts if part and part.strip())
    return " ".join(html.unescape(joined).split()) if is_sgml else joined


def _topic(record: Record) -> Query:
    """A TREC topic: `<num> Number: 301`, `<title> …`; closing tags may be missing."""
    number = re.search(r"<num>\s*(?:number:)?\s*([^\s<]+)|<topic[^>]*\bnumber=\"([^\"]+)\"", record.text, re.IGNORECASE)
    title = re.search(r"<(?:title|query)>\s*(?:topic:)?\s*([^<]*)", record.text, re.IGNORECASE)
    if number is None or title is None:
        raise DataError(f"{record.place}: a topic has <num> and <title>")
    return Query(number.group(1) or number.group(2), " ".join(html.unescape(title.group(1)).split()))
