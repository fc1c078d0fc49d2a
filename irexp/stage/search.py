"""The stage that searches an index with the test queries and writes a TREC run file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from irexp.config.schema import Machine, Search
from irexp.dataset.collection import Topics
from irexp.dataset.text_file import lines_of, read_id
from irexp.evaluation.run_file import RUN, write_run
from irexp.index.index import Index
from irexp.model.model import Model
from irexp.pipeline.index import open_index
from irexp.pipeline.search import check_depth, stream_search
from irexp.stage.checkpoint import open_encoder
from irexp.types import ScoredDoc


def search(
    folder: Path,
    index_folder: Path,
    checkpoint: str | None,
    *,
    model: partial[Model],
    index: Index,
    topics: Topics,
    search: Search,
    machine: Machine,
) -> dict[str, float]:
    """Search with the queries of `topics` and write the run into `folder`.

    Returns:
        The numbers of queries and of queries without a hit; and the length in tokens to which queries were cut.
    """
    check_depth(search.depth)
    answered: set[str] = set()

    def noted(found: Iterator[ScoredDoc]) -> Iterator[ScoredDoc]:
        for scored in found:
            answered.add(scored.query_id)
            yield scored

    encoder = None if checkpoint is None else open_encoder(checkpoint, model)
    found = stream_search(
        open_index(index, index_folder),
        topics,
        model=encoder,
        depth=search.depth,
        remove_query=search.remove_query,
        excluded=_excluded(search),
        machine=machine,
    )
    write_run(folder / RUN, noted(found), tag="irexp")
    queries = sum(1 for _ in topics.queries())
    measured = {"queries": float(queries), "queries_without_hit": float(queries - len(answered))}
    return measured if encoder is None else {**measured, "query_length": float(encoder.query_length)}


def _excluded(search: Search) -> frozenset[str]:
    """The ids of the documents that are left out."""
    if search.exclude_path is None:
        return frozenset()
    return frozenset(read_id(line.text, line.place) for line in lines_of(search.exclude_path) if line.text.strip())
