"""What may be given as a run: its lines, or its file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from irexp.evaluation.run_file import read_run
from irexp.types import ScoredDoc, UserError

#: A run: its lines or its file.
RunSource = Iterable[ScoredDoc] | str | Path

_LINE = "(query id, document id, score)"


def lines_of_run(run: RunSource) -> Iterable[ScoredDoc]:
    """The lines of a run; a file is read.

    Raises:
        UserError: for a dictionary or a table, of which only the queries or the names of columns would be read; and,
            when the lines are read, for one that is not a query, a document and a score.
    """
    if isinstance(run, str | Path):
        return read_run(Path(run))
    if isinstance(run, Mapping):
        raise UserError(
            f"a run is a file, or {_LINE} for each result, not a dictionary; "
            "write [(q, d, s) for q, found in run.items() for d, s in found.items()]"
        )
    if hasattr(run, "columns"):
        raise UserError(
            f"a run is a file, or {_LINE} for each result, not a {type(run).__name__} with columns; write "
            f"list(zip(run['query_id'], run['doc_id'], run['score'])) with its columns' names"
        )
    if not isinstance(run, Iterable):
        raise UserError(f"a run is a file, or {_LINE} for each result, not {_shown(run)}")
    return _checked(run)


def runs_of(runs: Iterable[RunSource]) -> list[RunSource]:
    """Several runs.

    Raises:
        UserError: for one run, of which each line, or each character of its file's name, would be taken for a run.
    """
    if isinstance(runs, str | Path | Mapping) or hasattr(runs, "columns") or not isinstance(runs, Iterable):
        raise UserError(f"runs={_shown(runs)} is not a list of runs; for one run write runs=[run]")
    found = list(runs)
    if found and isinstance(line := found[0], Sequence) and len(line) == 3 and isinstance(line[-1], Real):
        raise UserError(f"runs[0]={_shown(line)} is a line of a run, and not a run; for one run write runs=[run]")
    return found


def _checked(run: Iterable[Any]) -> Iterator[ScoredDoc]:
    """The lines with ids as strings, since whole numbers are ids, too."""
    for number, line in enumerate(run):
        try:
            columns: Iterable[Any] = () if isinstance(line, str) else line
            query_id, doc_id, score = columns
            found = ScoredDoc(str(query_id), str(doc_id), float(score))
        except (TypeError, ValueError):
            raise UserError(f"run[{number}] is {_shown(line)}; a line of a run is {_LINE}") from None
        if math.isnan(found.score):
            raise UserError(f"run[{number}] is {_shown(line)}: the score is NaN, which has no rank; make the run again")
        yield found


def _shown(value: object) -> str:
    """A value in an error message, cut to a length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
