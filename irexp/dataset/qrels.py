"""Relevance judgements from files: BEIR's three tab-separated columns, or TREC's four."""

from __future__ import annotations

import logging
import re

from irexp.dataset.collection import DataError
from irexp.dataset.field_names import names_columns, plain_name
from irexp.dataset.text_file import lines_of, read_id
from irexp.types import MOST_RELEVANT, WHITESPACE, Qrel

log = logging.getLogger(__name__)

_WHITESPACE = re.compile(f"[{WHITESPACE}]+")

#: Names of the columns of query, document and grade, those of ids first; `pid` before `docid`, as of documents.
_QUERY = ("query_id", "qid", "topic_id", "q_id", "topic", "query")
_DOCUMENT = ("corpus_id", "doc_id", "docno", "pid", "docid", "passage_id", "document_id", "did", "document")
_GRADE = ("score", "relevance", "rel", "label", "grade", "relevancy", "judgement", "judgment")

#: Query, document and grade of three or four columns.
_PLACES = (0, -2, -1)

#: A whole number, also as spreadsheets write it (`1.0`).
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?")


def read_qrels(path: str) -> list[Qrel]:
    """The judgements of a file, in its order; ids are read by `irexp.types.as_id`.

    The first line may be a header with the usual column names, as in BEIR; then the columns may be in any order.

    Raises:
        DataError: for a malformed line, a relevance that is not a whole number, or contradictory judgements.
    """
    judgements: dict[tuple[str, str], int] = {}
    read = 0
    is_first, places = True, _PLACES
    for line in lines_of(path):
        if not line.text.strip():
            continue
        columns = _columns(line.text, line.place)
        is_header, is_first = is_first and names_columns(columns) and not _WHOLE.fullmatch(columns[-1].strip()), False
        if is_header:
            places = _places(columns, line.place)
            continue
        query, document, grade = (columns[place] for place in places)
        query_id, doc_id = read_id(query, line.place), read_id(document, line.place)
        relevance = _relevance(grade.strip(WHITESPACE), line.place)
        known = judgements.setdefault((query_id, doc_id), relevance)
        if known != relevance:
            raise DataError(
                f"{line.place}: the relevance of {doc_id} to {query_id} is {known} on an earlier line and {relevance} "
                f"here; keep one of the two"
            )
        read += 1
    if not judgements:
        raise DataError(f"{path} has no judgements")
    if repeated := read - len(judgements):
        log.warning("%d judgements of %s are duplicates and count once", repeated, path)
    return [Qrel(query_id, doc_id, relevance) for (query_id, doc_id), relevance in judgements.items()]


def _places(header: list[str], place: str) -> tuple[int, int, int]:
    """The columns of query, document and grade by their names, and by their usual places where names are unknown.

    Raises:
        DataError: if a known name is at another than its usual place, and another name is not known.
    """
    names = [plain_name(column) for column in header]
    query, document, grade = (
        next((names.index(name) for name in usual if name in names), None) for usual in (_QUERY, _DOCUMENT, _GRADE)
    )
    if query is not None and document is not None and grade is None and len(names) == 3:
        grade = 3 - query - document
    if query is not None and document is not None and grade is not None:
        return query, document, grade
    usual = (0, len(names) - 2, len(names) - 1)
    if any(found not in (None, where) for found, where in zip((query, document, grade), usual, strict=True)):
        raise DataError(
            f"{place}: the header names {', '.join(names)}; call the columns query-id, corpus-id and score, or "
            f"remove it"
        )
    return usual


def _columns(text: str, place: str) -> list[str]:
    """Three or four columns, separated by single tabs or, as TREC allows, by any whitespace."""
    columns = text.rstrip("\r\n").split("\t")
    if len(columns) not in (3, 4):
        columns = _WHITESPACE.split(text.strip(WHITESPACE))
    if len(columns) not in (3, 4):
        raise DataError(
            f"{place}: {len(columns)} columns; a judgement has query-id, corpus-id, score (BEIR) or query, 0, "
            f"document, relevance (TREC)"
        )
    return columns


def _relevance(text: str, place: str) -> int:
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise DataError(f"{place}: the relevance {text[:40]!r} is not a whole number")
    value = int(found[1]) if len(found[1]) < 99 else MOST_RELEVANT + 1
    if abs(value) > MOST_RELEVANT:
        raise DataError(
            f"{place}: the relevance {text[:40]} is above {MOST_RELEVANT:,}, the largest that measures can count; use "
            f"smaller grades"
        )
    return value
