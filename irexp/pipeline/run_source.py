"""What may be given as a run: its lines, or its file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from irexp.evaluation.run_file import read_run
from irexp.types import ScoredDoc

#: A run: its lines or its file.
RunSource = Iterable[ScoredDoc] | str | Path


def lines_of_run(run: RunSource) -> Iterable[ScoredDoc]:
    """The lines of a run; a file is read."""
    return read_run(Path(run)) if isinstance(run, str | Path) else run
