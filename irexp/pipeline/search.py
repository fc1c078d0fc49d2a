"""Search an index with queries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING

from irexp.config.schema import Machine
from irexp.dataset.collection import Topics
from irexp.dataset.sources import TopicSource, open_topics
from irexp.index.index import Index
from irexp.index.ranking import Ranking, rank
from irexp.index.vectors import Queries
from irexp.pipeline.component import component
from irexp.pipeline.index import OpenIndex, check_engine
from irexp.pipeline.machine import prepare, token_budget
from irexp.progress import progress
from irexp.types import Query, ScoredDoc, UserError

if TYPE_CHECKING:
    import torch

    from irexp.model.model import Model

log = logging.getLogger(__name__)


def search(
    index: OpenIndex,
    queries: TopicSource,
    *,
    model: Model | None = None,
    depth: int | None = None,
    remove_query: bool | None = None,
    excluded: Iterable[str] = (),
    machine: Machine | None = None,
) -> list[ScoredDoc]:
    """Return the top documents per query, best first; equal scores in the order of document ids.

    Args:
        index: what `build_index` or `open_index` returned.
        queries: what `open_topics` opens: texts, a folder in BEIR's layout, a file, an id of ir_datasets.
        model: the bi-encoder that encoded the documents; None for BM25.
        depth: documents per query; None for `component("search").depth`.
        remove_query: whether to leave out the document whose id is the query's; None for what the topics say.
        excluded: ids of documents to leave out, as if the index did not hold them.
        machine: where it runs; None for `component("machine")`.

    Raises:
        UserError: if there are no queries, or the index does not hold the model's kind of vectors.
    """
    topics = open_topics(queries)
    return list(
        stream_search(
            index,
            topics,
            model=model,
            depth=component("search").depth if depth is None else depth,
            remove_query=topics.remove_query if remove_query is None else remove_query,
            excluded=_excluded_ids(excluded),
            machine=machine or component("machine"),
        )
    )


def stream_search(
    index: OpenIndex,
    topics: Topics,
    *,
    model: Model | None,
    depth: int,
    remove_query: bool,
    excluded: Set[str],
    machine: Machine,
) -> Iterator[ScoredDoc]:
    """Yield what `search` returns, batch by batch."""
    check_depth(depth)
    batches = query_batches(topics, machine.query_batch)
    warn_of_unknown(topics, index.doc_ids)
    warn_of_unknown_excluded(excluded, index.doc_ids, "excluded")
    hits = 0
    for rankings in search_batches(
        index, batches, model=model, depth=depth, remove_query=remove_query, excluded=excluded, machine=machine
    ):
        yield from lines_of_batch(rankings)
        hits += sum(bool(ranking) for _, ranking in rankings)
    warn_of_no_hit(sum(map(len, batches)), hits)


def _excluded_ids(excluded: Iterable[object]) -> frozenset[str]:
    """Ids as the index holds them: whole numbers are ids, too.

    Raises:
        UserError: for a string, of which each character would be an id.
    """
    if isinstance(excluded, str):
        raise UserError(f"excluded={excluded!r} is one string; name the ids of documents to leave out: [{excluded!r}]")
    return frozenset(map(str, excluded))


def query_batches(topics: Topics, size: int) -> list[list[Query]]:
    """The queries in their order, in batches of `size`; the last one may be smaller.

    Raises:
        UserError: if there are no queries.
    """
    stream, batches = iter(topics.queries()), list[list[Query]]()
    while batch := list(islice(stream, size)):
        batches.append(batch)
    if not batches:
        raise UserError("there are no queries to search with; check dataset.test")
    return batches


def search_batches(
    index: OpenIndex,
    batches: Sequence[list[Query]],
    *,
    model: Model | None,
    depth: int,
    remove_query: bool,
    excluded: Set[str],
    machine: Machine,
    done: int = 0,
) -> Iterator[list[tuple[str, Ranking]]]:
    """Yield the top documents of each batch of queries: a run of ten million lines is written without holding it.

    Args:
        index: what `build_index` or `open_index` returned; it is moved to the device if there is a batch.
        batches: what `query_batches` returned, or some of them.
        model: the bi-encoder that encoded the documents; None for BM25.
        depth: documents per query.
        remove_query: whether to leave out the document whose id is the query's.
        excluded: ids of documents to leave out, as if the index did not hold them.
        machine: where it runs.
        done: the number of queries in other batches that are complete, for the progress bar.
    """
    if not batches:
        return
    computing: Callable[[], AbstractContextManager[object]] = nullcontext
    if model is None:  # an engine of texts, for which nobody waits for torch to be imported
        embed = query_encoder(None, index.engine, None, machine)
    else:
        import torch

        device = prepare(machine)
        embed, computing = query_encoder(model, index.engine, device, machine), torch.inference_mode
        index.engine.to(device)
    total = done + sum(map(len, batches))
    with progress(total=total, initial=done, unit=" queries", desc="search", shown=machine.progress) as bar:
        for batch in batches:
            texts = [query.text for query in batch]
            with computing():
                rankings = rank(
                    index.engine, embed(texts), depth + remove_query, doc_ids=index.doc_ids, excluded=excluded
                )
            yield [
                (query.query_id, [each for each in ranking if not remove_query or each[0] != query.query_id][:depth])
                for query, ranking in zip(batch, rankings, strict=True)
            ]
            bar.update(len(batch))


def lines_of_batch(rankings: Sequence[tuple[str, Ranking]]) -> Iterator[ScoredDoc]:
    """The lines of a run, one by one: in a list the collector of garbage would look at each of them several times."""
    for query_id, ranking in rankings:
        for doc_id, score in ranking:
            yield ScoredDoc(query_id, doc_id, score)


def query_encoder(
    model: Model | None, engine: Index, device: torch.device | None, machine: Machine
) -> Callable[[list[str]], Queries]:
    """The function that turns query texts into an engine's input: vectors, or without a model the texts."""
    if model is None:
        check_engine(engine, "text")
        return list
    from irexp.pipeline.encode import check_bi_encoder  # imports transformers, which BM25 does not need

    assert device is not None
    encoder = check_bi_encoder(model)
    check_engine(engine, encoder.representation)
    return partial(encoder.to(device).embed_queries, budget=token_budget(machine, encoder, device))


def check_depth(depth: int) -> None:
    """Refuse a depth below 1, and one that is not a whole number."""
    if not isinstance(depth, Integral) or depth < 1:
        raise UserError(f"search.depth={depth}: a run needs at least one document per query; give a whole number")


def warn_of_unknown(topics: Topics, doc_ids: Sequence[str]) -> None:
    """Warn of relevant documents that are not in the index."""
    relevant = {qrel.doc_id for qrel in topics.qrels() if qrel.relevance > 0}
    unknown = relevant.difference(doc_ids)
    if unknown:
        log.warning(
            "%d of %d relevant documents are not in the index, such as %r; no search can find them",
            len(unknown),
            len(relevant),
            min(unknown),
        )


def warn_of_unknown_excluded(excluded: Set[str], doc_ids: Sequence[str], source: str) -> None:
    """Warn of ids that exclude nothing.

    Args:
        excluded: the ids of documents to leave out.
        doc_ids: those of the index.
        source: what they were given as.
    """
    if excluded and (unknown := set(excluded).difference(doc_ids)):
        log.warning(
            "%d of the %d ids in %s are not in the index, such as %r",
            len(unknown),
            len(excluded),
            source,
            min(unknown),
        )


def warn_of_no_hit(queries: int, hits: int) -> None:
    """Warn of queries for which no document is found.

    Args:
        queries: how many there are.
        hits: for how many a document is found.
    """
    if hits < queries:
        log.warning("%d of %d queries have no hit", queries - hits, queries)
