"""Relevance judgements from files: BEIR's three tab-separated columns, or TREC's four."""

from __future__ import annotations

import logging
import re

from irexp.dataset.collection import DataError
from irexp.dataset.local_format import names_columns
from irexp.dataset.text_file import lines_of, read_id
from irexp.types import MOST_RELEVANT, WHITESPACE, Qrel

log = logging.getLogger(__name__)

_WHITESPACE = re.compile(f"[{WHITESPACE}]+")

#: A whole number, also as spreadsheets write it (`1.0`).
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?")


def read_qrels(path: str) -> list[Qrel]:
    """The judgements of a file, in its order; ids are read by `irexp.types.as_id`.

    The first line may be a header with the usual column names, as in BEIR.

    Raises:
        DataError: for a malformed line, a relevance that is not a whole number, or contradictory judgements.
    """
    judgements: dict[tuple[str, str], int] = {}
    read = 0
    is_first = True
    for line in lines_of(path):
        if not line.text.strip():
            continue
        columns = _columns(line.text, line.place)
        is_header, is_first = is_first and names_columns(columns) and not _WHOLE.fullmatch(columns[-1].strip()), False
        if is_header:
            continue
        query_id, doc_id = read_id(columns[0], line.place), read_id(columns[-2], line.place)
        relevance = _relevance(columns[-1].strip(WHITESPACE), line.place)
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
