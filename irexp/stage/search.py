"""The stage that searches an index with the test queries and writes a TREC run file; a killed one resumes."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from irexp.config.schema import Machine, Search
from irexp.dataset.collection import Topics
from irexp.dataset.text_file import lines_of, read_id
from irexp.evaluation.run_file import RUN
from irexp.index.index import Index
from irexp.pipeline.batch_files import batch_file, batch_prefix, join_batches, own_batches, write_batch
from irexp.pipeline.index import open_index
from irexp.pipeline.machine import is_helper
from irexp.pipeline.search import (
    check_depth,
    lines_of_batch,
    query_batches,
    search_batches,
    warn_of_no_hit,
    warn_of_unknown,
    warn_of_unknown_excluded,
)

if TYPE_CHECKING:
    from irexp.model.model import Model

log = logging.getLogger(__name__)

#: The folder with the results of each batch of queries, until the run is complete.
_WORK = ".found"


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
    batches = query_batches(topics, machine.query_batch)
    prefixes = [batch_prefix(folder / _WORK, [query.query_id for query in batch]) for batch in batches]
    own = list(own_batches(zip(batches, prefixes, strict=True)))
    missing = [(batch, prefix) for batch, prefix in own if not batch_file(prefix).is_file()]
    if is_helper(machine) and not missing:  # nothing is opened: an index may be large
        return {}
    total = sum(len(batch) for batch, _ in own)
    if done := total - sum(len(batch) for batch, _ in missing):
        log.info("resuming after %s queries that are answered already", f"{done:,}")
    encoder = None
    if checkpoint is not None:
        from irexp.stage.checkpoint import open_encoder  # imports transformers, which BM25 does not need

        encoder = open_encoder(checkpoint, model)
    opened = open_index(index, index_folder)
    excluded = _excluded(search)
    if not is_helper(machine):
        warn_of_unknown(topics, opened.doc_ids)
        warn_of_unknown_excluded(excluded, opened.doc_ids, f"search.exclude_path={search.exclude_path}")
    found = search_batches(
        opened,
        [batch for batch, _ in missing],
        model=encoder,
        depth=search.depth,
        remove_query=search.remove_query,
        excluded=excluded,
        machine=machine,
        done=done,
    )
    for (_, prefix), rankings in zip(missing, found, strict=True):
        write_batch(prefix, lines_of_batch(rankings))
    if is_helper(machine):
        return {}
    answered = join_batches(prefixes, folder / RUN)
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    warn_of_no_hit(total, answered)
    measured = {"queries": float(total), "queries_without_hit": float(total - answered)}
    return measured if encoder is None else {**measured, "query_length": float(encoder.query_length)}


def _excluded(search: Search) -> frozenset[str]:
    """The ids of the documents that are left out."""
    if search.exclude_path is None:
        return frozenset()
    return frozenset(read_id(line.text, line.place) for line in lines_of(search.exclude_path) if line.text.strip())
