"""Reads runs with TREC's six columns, query_id Q0 doc_id rank score tag, or Tevatron's three, query_id doc_id score.

The columns are separated by tabs or any whitespace.

A run is ordered by score descending, then document id ascending; the rank column and the order of the lines are
ignored, and so is ir_metadata in front of the run (`irexp.artifact.ir_metadata`). Ids are read by `irexp.types.as_id`.
"""

import functools
import gzip
import logging
import math
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from operator import gt, itemgetter, le
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from irexp.artifact.content import is_gzip
from irexp.artifact.ir_metadata import END, START
from irexp.types import WHITESPACE, ScoredDoc, UserError, as_id

log = logging.getLogger(__name__)

COLUMNS = ("query_id", "Q0", "doc_id", "rank", "score", "tag")

#: The columns of Tevatron's rankings.
_THREE = 3

#: The places of the query, the document and the score among so many columns.
_PLACES = {len(COLUMNS): (0, 2, 4), _THREE: (0, 1, 2)}

_INTEGER = re.compile("[+-]?[0-9]+")

_WHITESPACE = re.compile(f"[{WHITESPACE}]+")


def in_rank_order(score_of: Mapping[str, float]) -> list[str]:
    """The document ids of one query, best first: score descending, then document id ascending."""
    scores = list(score_of.values())
    if all(map(gt, scores, scores[1:])):  # as in most runs
        return list(score_of)
    return sorted(score_of, key=lambda doc_id: (-score_of[doc_id], doc_id))


class Rankings:
    """The documents of each query of a run, best first; queries in the order of the run.

    In memory a run takes about 20 bytes per line, and the bytes of its ids.
    """

    def __init__(self, run: Iterable[ScoredDoc]) -> None:
        """Read the run; the order of its lines does not matter."""
        of_query: dict[str, int] = {}
        ids, ends, scores, numbers = bytearray(), array("q", [0]), array("d"), array("i")
        for query_id, doc_id, score in run:
            numbers.append(of_query.setdefault(query_id, len(of_query)))
            scores.append(score)
            ids += doc_id.encode()
            ends.append(len(ids))
        self._numbers, self._ids, self._ends, self._scores = of_query, ids, ends, scores
        number_N = np.frombuffer(numbers, dtype=np.int32)
        self._line_N = np.argsort(number_N, kind="stable")
        self._bounds = np.searchsorted(number_N[self._line_N], np.arange(len(self._numbers) + 1))

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        """Each query with its documents.

        Raises:
            UserError: if a query has a document twice.
        """
        return ((query_id, list(score_of)) for query_id, score_of in self.scored())

    def scored(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Each query with the scores of its documents, best first.

        Raises:
            UserError: if a query has a document twice.
        """
        for query_id, number in self._numbers.items():
            lines = self._line_N[self._bounds[number] : self._bounds[number + 1]].tolist()
            score_of = {self._doc_id(line): self._scores[line] for line in lines}
            if len(score_of) < len(lines):
                doc_ids = [self._doc_id(line) for line in lines]
                twice = next(doc_id for doc_id in doc_ids if doc_ids.count(doc_id) > 1)
                raise UserError(f"the run has document {twice!r} twice for query {query_id!r}; keep one of them")
            yield query_id, {doc_id: score_of[doc_id] for doc_id in in_rank_order(score_of)}

    def _doc_id(self, line: int) -> str:
        return self._ids[self._ends[line] : self._ends[line + 1]].decode()


def read_run(path: Path) -> Iterator[ScoredDoc]:
    """Stream the lines of a run file, in the order of the file; gzip is decompressed.

    The first line decides for the whole file: six columns or three; with five tabs or two, single tabs separate them,
    else whitespace. Duplicate documents are detected after the last line, from eight bytes held per line.

    Raises:
        UserError: if the file cannot be read, a line has other columns or a score that is not a number, or a document
            is listed twice for a query.
    """
    _warn_of_ranks(path)
    pairs = array("q")
    for line_number, query_id, doc_id, score_text in _columns(path):
        try:
            score = float(score_text)
        except ValueError:
            raise UserError(f"{path}:{line_number}: the score {score_text[:80]!r} is not a number") from None
        if math.isnan(score):
            raise UserError(f"{path}:{line_number}: the score is NaN, which has no rank; create the run again")
        pairs.append(hash((query_id, doc_id)))
        yield ScoredDoc(query_id, doc_id, score)
    pair_N = np.sort(np.frombuffer(pairs, dtype=np.int64))
    if (pair_N[1:] == pair_N[:-1]).any():
        _raise_if_repeated(path, set(pair_N[1:][pair_N[1:] == pair_N[:-1]].tolist()))


@functools.cache
def _warn_of_ranks(path: Path) -> None:
    """Warn once of a run whose ranks say another order than its scores: those of distances, or equal ones."""
    query_id, of_rank = _first_ranking(path)
    scores = [of_rank[rank][1] for rank in sorted(of_rank)]
    doc_ids = [of_rank[rank][0] for rank in sorted(of_rank)]
    if len(scores) < 2:
        return
    if scores[0] < scores[-1] and all(map(le, scores, scores[1:])):  # equal ones are rounded
        log.warning(
            "%s: of query %s, the document of rank %d has the smallest score, and larger scores count as better, as in "
            "trec_eval; if these are distances, write them with a minus",
            path,
            query_id,
            min(of_rank),
        )
    if len(set(scores)) == 1 and doc_ids != sorted(doc_ids):
        log.warning(
            "%s: of query %s, all scores are %g, so that its documents are ordered by their ids, and not by the column "
            "of ranks, which is ignored; if the ranks are right, write scores that fall with them, such as 1 / rank",
            path,
            query_id,
            scores[0],
        )


def _first_ranking(path: Path) -> tuple[str, dict[int, tuple[str, float]]]:
    """The first query that has several lines, and the document and the score of each of its ranks."""
    query_id, lines = "", 0
    found: dict[int, tuple[str, float]] = {}
    with suppress(OSError, EOFError, zlib.error, ValueError), _open(path) as file:  # which reading the run explains
        for line in file:
            columns = line.split("\t") if line.count("\t") == len(COLUMNS) - 1 else _by_whitespace(line)
            if line.startswith("#") or len(columns) != len(COLUMNS):
                continue
            if columns[0] != query_id:
                if lines > 1:
                    break
                query_id, lines, found = columns[0], 0, {}
            lines += 1
            found[int(columns[3])] = columns[2], float(columns[4])
    return query_id, found


def _raise_if_repeated(path: Path, pairs: set[int]) -> None:
    """Name the first document that is listed twice; equal hashes may, rarely, belong to different documents."""
    seen: dict[tuple[str, str], int] = {}
    for line_number, query_id, doc_id, _ in _columns(path):
        if hash((query_id, doc_id)) in pairs:
            if first := seen.get((query_id, doc_id)):
                pair = f"query {query_id[:80]!r} has document {doc_id[:80]!r}"
                raise UserError(f"{path}:{line_number}: {pair} a second time, first on line {first}; keep one of them")
            seen[query_id, doc_id] = line_number


def _columns(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """The number (from 1) of each line that is not empty, its query, its document and its score."""
    line_number, wanted, is_metadata, by_tabs = 0, 0, False, False
    query_text: str | None = None
    query_id = ""
    try:
        with _open(path) as file:
            for line_number, line in enumerate(file, start=1):
                if not wanted:  # before the first line of the run
                    if is_metadata or line.rstrip("\n") == START:
                        is_metadata = line.rstrip("\n") != END
                        continue
                    if not line.strip():
                        continue
                    by_tabs, wanted = _separation(line)
                    columns_of = itemgetter(*_PLACES[wanted])
                columns = line.split("\t") if by_tabs else _by_whitespace(line)
                if len(columns) != wanted:
                    if not line.strip():
                        continue
                    raise UserError(f"{path}:{line_number}: {_other_columns(line, wanted, by_tabs=by_tabs)}")
                query, document, score = columns_of(columns)
                if wanted == _THREE and _INTEGER.fullmatch(score.strip()):
                    raise UserError(
                        f"{path}:{line_number}: of three columns the last must be a score with a decimal point, and "
                        f"{score.strip()[:80]} may be a rank, as in MS MARCO's runs; write the six columns "
                        f"{' '.join(COLUMNS)}"
                    )
                try:
                    if query != query_text:
                        query_text, query_id = query, as_id(query.removeprefix("\ufeff"))  # of joined files
                    doc_id = as_id(document)
                except ValueError as error:
                    raise UserError(f"{path}:{line_number}: {error}") from None
                yield line_number, query_id, doc_id, score
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such run file; check the path, or run stage=search") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{line_number + 1}: not UTF-8 text ({error}); convert the file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}:{line_number + 1}: cannot be read: {error}; download or create the file again"
        ) from error


def _other_columns(line: str, wanted: int, *, by_tabs: bool) -> str:
    """What is wrong with a line that has other columns than the first one."""
    names = "the six columns " + " ".join(COLUMNS) if wanted == len(COLUMNS) else "query_id doc_id score"
    separator = "tabs, as on its first line" if by_tabs else "whitespace"
    found = line.rstrip("\n")[:200]
    return f"not a line of a TREC run: expected {names}, separated by {separator}; found {found!r}"


def _by_whitespace(line: str) -> list[str]:
    return _WHITESPACE.split(line.strip(WHITESPACE))


def _separation(line: str) -> tuple[bool, int]:
    """Whether single tabs separate the columns of a run, and how many there are, by its first line."""
    by_tabs, by_whitespace = line.count("\t") + 1, len(_by_whitespace(line))
    if by_tabs == len(COLUMNS) or by_whitespace == len(COLUMNS):
        return by_tabs == len(COLUMNS), len(COLUMNS)
    if by_tabs == _THREE:
        return True, _THREE
    return False, _THREE if by_whitespace == _THREE else len(COLUMNS)


def _open(path: Path) -> TextIO:
    """The file's text; files of other programs may begin with a byte order mark."""
    opener = gzip.open if is_gzip(path) else open
    return cast(TextIO, opener(path, "rt", encoding="utf-8-sig"))
