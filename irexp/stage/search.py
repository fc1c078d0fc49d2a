"""The stage that makes a run: every test query answered from the index, as a TREC run file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from irexp.config.schema import Machine, Search
from irexp.dataset.collection import Topics
from irexp.dataset.text_file import lines_of
from irexp.evaluation.run_file import write_run
from irexp.index.ids import IdList
from irexp.index.index import Index
from irexp.index.ranking import rank
from irexp.index.vectors import Queries
from irexp.model.batching import TokenBudget
from irexp.model.model import Model
from irexp.stage.encode import query_encoder
from irexp.stage.index import IDS
from irexp.stage.machine import prepare
from irexp.stage.run import RUN
from irexp.types import Query, ScoredDoc, UserError

log = logging.getLogger(__name__)

#: The results of a batch of queries: document ids with scores, best first.
Results = list[list[tuple[str, float]]]


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
    """Answer the queries of `topics` and write the run into `folder`.

    Returns:
        The number of queries and of those without a hit.
    """
    check_depth(search)
    device = prepare(machine)
    index.load(index_folder)
    queries = list(topics.queries())
    if not queries:
        raise UserError("there are no queries to answer; look at dataset.test")
    excluded = _excluded(search)
    depth = search.depth + search.remove_query
    embed = query_encoder(checkpoint, model, index, device, TokenBudget(machine.token_budget))
    index.to(device)
    doc_ids = IdList([index_folder / IDS])
    answers = (_answer(embed, index, batch, depth, doc_ids, excluded) for batch in _batches(queries, machine))
    _log_unknown(topics, doc_ids)
    hits = 0
    lines: list[ScoredDoc] = []
    with tqdm(total=len(queries), unit=" queries", desc="search", disable=not machine.progress) as progress:
        for batch, results in zip(_batches(queries, machine), answers, strict=True):
            for query, ranking in zip(batch, results, strict=True):
                found = [(d, s) for d, s in ranking if not (search.remove_query and d == query.query_id)]
                lines += [ScoredDoc(query.query_id, doc_id, score) for doc_id, score in found[: search.depth]]
                hits += bool(found)
            progress.update(len(batch))
    write_run(folder / RUN, lines, tag="irexp")
    if hits < len(queries):
        log.warning("%d of %d queries have no hit", len(queries) - hits, len(queries))
    return {"queries": float(len(queries)), "queries_without_hit": float(len(queries) - hits)}


def check_depth(search: Search) -> None:
    """Refuse a search for nothing."""
    if search.depth < 1:
        raise UserError(f"search.depth={search.depth}: a run needs at least one document a query")


def _batches(queries: list[Query], machine: Machine) -> Iterator[list[Query]]:
    stream = iter(queries)
    while batch := list(islice(stream, machine.query_batch)):
        yield batch


@torch.inference_mode()
def _answer(
    embed: Callable[[list[str]], Queries],
    index: Index,
    batch: list[Query],
    depth: int,
    doc_ids: Sequence[str],
    excluded: Set[str],
) -> Results:
    return rank(index, embed([query.text for query in batch]), depth, doc_ids=doc_ids, excluded=excluded)


def _excluded(search: Search) -> frozenset[str]:
    """The ids of the documents that are no results."""
    if search.exclude_path is None:
        return frozenset()
    return frozenset(line.text.rstrip("\r\n") for line in lines_of(search.exclude_path))


def _log_unknown(topics: Topics, doc_ids: Sequence[str]) -> None:
    """Say how many relevant documents the index lacks: no search can find them."""
    relevant = {qrel.doc_id for qrel in topics.qrels() if qrel.relevance > 0}
    unknown = relevant.difference(doc_ids)
    if unknown:
        log.warning(
            "%d of %d relevant documents are not in the index, such as %r; no search can find them",
            len(unknown),
            len(relevant),
            min(unknown),
        )
