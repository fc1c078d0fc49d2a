"""Run files with TREC's six columns, `query_id Q0 doc_id rank score tag`, written and cut to a depth.

irexp separates columns by tabs, so that ids may contain spaces; `irexp.artifact.run_lines` reads any whitespace.
trec_eval also orders by score, but breaks ties by document id descending; `irexp.evaluation.measures` makes it use
irexp's order.
"""

import gzip
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO, cast

from irexp.artifact.run_lines import Rankings as Rankings
from irexp.artifact.run_lines import in_rank_order as in_rank_order
from irexp.artifact.run_lines import read_run as read_run
from irexp.types import ScoredDoc, UserError, as_id

#: The run file in the folder of a run.
RUN = "test.run"


def run_file(run: Path) -> Path:
    """The file of a run, which is an artifact's folder or a file."""
    return run / RUN if run.is_dir() else run


def write_run(path: Path, ranking: Iterable[ScoredDoc], *, tag: str) -> None:
    """Stream a ranking into a run file, compressed if its name ends in `.gz`.

    Scores are written with all digits that are needed to read the same float back, which keeps their order.

    Args:
        path: the file, in an existing folder.
        ranking: the documents query by query, best first.
        tag: the name of the run, for the last column.

    Raises:
        UserError: if an id or the tag could not be read back unchanged, or a score is NaN.
    """
    _check_column("tag", tag)
    query_id, rank, previous_score = None, 0, math.inf
    with _open(path) as file:
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
    """The `depth` best documents of each query of a run file, best first."""
    return run_heads(read_run(path), depth)


def run_heads(run: Iterable[ScoredDoc], depth: int | None = None) -> dict[str, list[str]]:
    """The `depth` best documents of each query of a run, None for all, best first; equal ids share one string."""
    ids: dict[str, str] = {}
    return {
        query_id: [ids.setdefault(doc_id, doc_id) for doc_id in doc_ids[:depth]] for query_id, doc_ids in Rankings(run)
    }


def _check_column(name: str, value: str) -> None:
    try:
        found = as_id(value)
    except ValueError as error:
        raise UserError(f"a run file cannot hold the {name} {value!r}: {error}") from None
    if found != value:
        raise UserError(f"a run file cannot hold the {name} {value!r}: there is whitespace around it; remove it")


def _open(path: Path) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    return cast(TextIO, opener(path, "wt", encoding="utf-8", newline="\n"))
