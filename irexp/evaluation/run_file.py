"""Run files in the six columns of TREC: query_id Q0 doc_id rank score tag.

Ours are separated by tabs, so that an id with a blank survives; those from elsewhere may be separated by any blanks.

The order of a run is its scores': score descending, and documents of the same score by document id ascending, whatever
the file's rank column and the order of its lines say. trec_eval too goes by the score, but breaks ties by document id
descending; `irexp.evaluation.measures` makes it follow our order.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO, cast

from irexp.types import ScoredDoc, UserError

COLUMNS = ("query_id", "Q0", "doc_id", "rank", "score", "tag")

# ASCII only, as trec_eval splits: str.split would also cut an id at a no-break space.
BLANKS = re.compile(r"[ \t\v\f]+")


def in_rank_order(score_of: Mapping[str, float]) -> list[str]:
    """The document ids of one query, best first: score descending, then document id ascending."""
    return sorted(score_of, key=lambda doc_id: (-score_of[doc_id], doc_id))


def write_run(path: Path, ranking: Iterable[ScoredDoc], *, tag: str) -> None:
    """Stream a ranking into a run file; one whose name ends in `.gz` is compressed.

    Scores are written with as many digits as give the same float back, so that the order survives.

    Args:
        path: the file; its folder exists.
        ranking: the documents of one query after the other, best first.
        tag: the name of the run, the last column.

    Raises:
        UserError: if an id or the tag is empty or holds a tab or a line break, or if a score is NaN.
    """
    _check_column("tag", tag)
    query_id, rank, previous_score = None, 0, math.inf
    with _open(path, "wt") as file:
        for scored in ranking:
            score = float(scored.score)
            _check_column("query_id", scored.query_id)
            _check_column("doc_id", scored.doc_id)
            if math.isnan(score):
                raise UserError(
                    f"{path}: query {scored.query_id!r}, document {scored.doc_id!r} has the score NaN, which has no "
                    "rank; the model or its checkpoint is broken (a loss that became NaN?)"
                )
            if scored.query_id != query_id:
                query_id, rank, previous_score = scored.query_id, 0, math.inf
            assert score <= previous_score, f"query {query_id!r} is not ranked by score at document {scored.doc_id!r}"
            rank, previous_score = rank + 1, score
            file.write(f"{query_id}\tQ0\t{scored.doc_id}\t{rank}\t{score!r}\t{tag}\n")


def read_heads(path: Path, depth: int) -> dict[str, list[str]]:
    """The best documents of each query of a run, in the order of their scores; equal ids are one string."""
    ids: dict[str, str] = {}
    score_of: dict[str, dict[str, float]] = {}
    for query_id, doc_id, score in read_run(path):
        score_of.setdefault(query_id, {})[ids.setdefault(doc_id, doc_id)] = score
    return {query_id: in_rank_order(scores)[:depth] for query_id, scores in score_of.items()}


def read_run(path: Path) -> Iterator[ScoredDoc]:
    """Stream the lines of a run file, in the order of the file; `.gz` is decompressed.

    The first line decides: with five tabs the whole file is separated by single tabs, else by blanks.

    Raises:
        UserError: if the file cannot be read, a line has not six columns or no number as its score, or a document is
            listed twice for one query.
    """
    seen: dict[str, set[str]] = {}
    for line_number, columns in _columns(path):
        query_id, _, doc_id, _, score_text, _ = columns
        try:
            score = float(score_text)
        except ValueError:
            raise UserError(f"{path}:{line_number}: the score {score_text!r} (fifth column) is not a number") from None
        if math.isnan(score):
            raise UserError(f"{path}:{line_number}: the score is NaN, which has no rank; make the run again")
        doc_ids = seen.setdefault(query_id, set())
        if doc_id in doc_ids:
            first = next(n for n, c in _columns(path) if (c[0], c[2]) == (query_id, doc_id))
            raise UserError(
                f"{path}:{line_number}: query {query_id!r} has document {doc_id!r} a second time, the first is line "
                f"{first}; keep one of the two"
            )
        doc_ids.add(doc_id)
        yield ScoredDoc(query_id, doc_id, score)


def _check_column(name: str, value: str) -> None:
    if not value.strip() or any(character in value for character in "\t\n\r"):
        raise UserError(f"the {name} {value!r} cannot stand in a run file: it is empty or holds a tab or a line break")


def _open(path: Path, mode: str) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    if mode == "rt":  # a file from elsewhere may begin with a byte order mark
        return cast(TextIO, opener(path, mode, encoding="utf-8-sig"))
    return cast(TextIO, opener(path, mode, encoding="utf-8", newline="\n"))


def _columns(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number, from 1, and the six columns of each line that is not blank."""
    is_tabbed: bool | None = None
    for line_number, line in _lines(path):
        if not line.strip():
            continue
        if is_tabbed is None:
            is_tabbed = line.count("\t") == len(COLUMNS) - 1
        columns = line.split("\t") if is_tabbed else BLANKS.split(line.strip(" \t\v\f"))
        if len(columns) != len(COLUMNS) or not (columns[0].strip() and columns[2].strip()):
            separator = "tabs, as on its first line" if is_tabbed else "blanks"
            raise UserError(
                f"{path}:{line_number}: not a line of a TREC run: expected the six columns {' '.join(COLUMNS)}, "
                f"separated by {separator}; found {line[:200]!r}"
            )
        yield line_number, columns


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    line_number = 0
    try:
        with _open(path, "rt") as file:
            for line_number, line in enumerate(file, start=1):
                yield line_number, line.rstrip("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such run file; check the path, or make it with stage=search") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{line_number + 1}: not UTF-8 text ({error}); convert the file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}:{line_number + 1}: cannot be read: {error}; fetch or make the file again") from error
