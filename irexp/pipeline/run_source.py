"""What may be given as a run: its lines, or its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from irexp.evaluation.run_file import read_run
from irexp.types import ScoredDoc, UserError

#: A run: its lines or its file.
RunSource = Iterable[ScoredDoc] | str | Path


def lines_of_run(run: RunSource) -> Iterable[ScoredDoc]:
    """The lines of a run; a file is read.

    Raises:
        UserError: for a dictionary, of which only the queries would be read.
    """
    if isinstance(run, str | Path):
        return read_run(Path(run))
    if isinstance(run, Mapping):
        raise UserError(
            "a run is a file, or (query id, document id, score) for each result, not a dictionary; "
            "write [(q, d, s) for q, found in run.items() for d, s in found.items()]"
        )
    return (ScoredDoc(str(query_id), str(doc_id), float(score)) for query_id, doc_id, score in run)
