"""Relevance judgements from files: BEIR's three tab-separated columns, or TREC's four."""

from __future__ import annotations

import logging

from irexp.dataset.collection import DataError
from irexp.dataset.text_file import lines_of
from irexp.types import Qrel

log = logging.getLogger(__name__)


def read_qrels(path: str) -> list[Qrel]:
    """The judgements of a file, in its order.

    Raises:
        DataError: for a malformed line, a relevance that is no whole number, or contradicting judgements.
    """
    judgements: dict[tuple[str, str], int] = {}
    repeated = 0
    for number, line in enumerate(lines_of(path), 1):
        if not line.text.strip():
            continue
        columns = line.text.rstrip("\r\n").split("\t")
        if len(columns) not in (3, 4):  # TREC's files are separated by any white space
            columns = line.text.split()
        if len(columns) not in (3, 4):
            raise DataError(
                f"{line.place}: {len(columns)} columns; a judgement is query-id, corpus-id, score (BEIR) or query, 0, "
                f"document, relevance (TREC)"
            )
        query_id, doc_id, relevance = columns[0].strip(), columns[-2].strip(), columns[-1].strip()
        try:
            value = int(relevance)
        except ValueError:
            if number == 1:  # a header
                continue
            raise DataError(f"{line.place}: the relevance {relevance!r} is no whole number") from None
        known = judgements.setdefault((query_id, doc_id), value)
        if known != value:
            raise DataError(f"{line.place}: {query_id} and {doc_id} were judged {known} before, and {value} here")
        repeated += 1
    repeated -= len(judgements)
    if repeated:
        log.warning("%d judgements of %s stand there twice; each counts once", repeated, path)
    if not judgements:
        raise DataError(f"{path} has no judgements")
    return [Qrel(query_id, doc_id, relevance) for (query_id, doc_id), relevance in judgements.items()]
