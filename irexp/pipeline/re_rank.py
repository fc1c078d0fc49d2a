"""Re-rank a run: score the top documents per query with any model."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents, ScoredDocs, unknown_ids
from irexp.dataset.sources import DocumentSource, TopicSource, open_documents, open_topics
from irexp.evaluation.run_file import in_rank_order, read_run, run_heads
from irexp.index.compare import compare
from irexp.index.parts import Parts
from irexp.index.vectors import take
from irexp.model.batching import TokenBudget
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.pipeline.batch_files import batch_prefix, own_batches, write_batch
from irexp.pipeline.component import component
from irexp.pipeline.machine import token_budget
from irexp.pipeline.precision import Lowered, prepare_scorer
from irexp.pipeline.run_source import RunSource, lines_of_run
from irexp.progress import progress
from irexp.types import Query, ScoredDoc, UserError

log = logging.getLogger(__name__)

#: Candidate tokens that are in memory at a time: 2 GiB as fp32 vectors of 128 dimensions.
_MAX_TOKENS = 2**22

#: A query with the ids of its candidates.
Candidates = tuple[Query, list[str]]


def re_rank(
    model: Model,
    run: RunSource,
    queries: TopicSource,
    documents: DocumentSource,
    *,
    depth: int | None = None,
    precision: str = "float32",
    machine: Machine | None = None,
) -> list[ScoredDoc]:
    """Score the top documents per query of any run with a model, without the query's own if the topics leave it out.

    Args:
        model: a cross-encoder or a bi-encoder.
        run: what `search` returned, a run file, or what a collection ships, such as `IrdsScoredDocs(id)`.
        queries: what `open_topics` opens.
        documents: what `open_documents` opens.
        depth: documents to score and keep per query; None for `component("re_rank").depth`.
        precision: of the computation: float32, bfloat16, or int8 on a processor.
        machine: where it runs; None for `component("machine")`.

    Raises:
        UserError: if the run answers none of the queries, or names a document that the collection lacks; or if the
            precision cannot be had.
    """
    machine = machine or component("machine")
    depth = component("re_rank").depth if depth is None else depth
    check_depth(depth)
    in_precision = prepare_scorer(model, machine, "re_rank.precision", precision)
    collection = open_documents(documents)
    topics = open_topics(queries)
    rankings = candidates_of(run, list(topics.queries()), depth, remove_query=topics.remove_query)
    return score_candidates(model, rankings, collection, machine=machine, in_precision=in_precision)


def score_candidates(
    scorer: Model,
    rankings: Sequence[Candidates],
    documents: Documents,
    *,
    machine: Machine,
    work: Path | None = None,
    in_precision: Lowered = nullcontext,
) -> list[ScoredDoc]:
    """Score the candidates of each query, best first; those of a share of the queries if this process makes a share.

    Args:
        scorer: a cross-encoder or a bi-encoder.
        rankings: what `candidates_of` returned.
        documents: the collection.
        machine: where it runs.
        work: a folder of which a killed process leaves what it has scored, for the same call to resume; None to keep
            nothing.
        in_precision: what `lowered` made of the scorer; by default it scores in float32.
    """
    budget = token_budget(machine, scorer, scorer.device)
    found: dict[str, dict[str, float]] = {query.query_id: {} for query, _ in rankings}
    for line in _scored_before(work):
        found[line.query_id][line.doc_id] = line.score
    total, done = sum(len(doc_ids) for _, doc_ids in rankings), sum(map(len, found.values()))
    if done:
        log.info("resuming after %s pairs that are scored already", f"{done:,}")
    most = max(1, _MAX_TOKENS // scorer.document_length)
    batches = list(own_batches(_batches(rankings, machine.query_batch, most=most)))
    _check_texts(documents, batches, found)
    with progress(total=total, initial=done, unit=" pairs", desc="re_rank", shown=machine.progress) as bar:
        for batch in batches:
            missing = [(query, doc_ids) for query, doc_ids in batch if len(found[query.query_id]) < len(doc_ids)]
            if not missing:
                continue
            prefix = _prefix(work, missing)
            scores = _scores(scorer, missing, documents, budget, prefix, bar.update, in_precision)
            for (query, doc_ids), score_N in zip(missing, scores, strict=True):
                found[query.query_id] = dict(zip(doc_ids, score_N, strict=True))
            if prefix is not None:
                write_batch(prefix, _ranked({query.query_id: found[query.query_id] for query, _ in missing}))
                Parts(prefix).remove()  # from which the scores were computed
    if empty := sum(not doc_ids for _, doc_ids in rankings):
        log.warning("%d of %d queries have no candidate", empty, len(rankings))
    return list(_ranked(found))


def _check_texts(
    documents: Documents, batches: Iterable[Sequence[Candidates]], found: Mapping[str, Mapping[str, float]]
) -> None:
    """Look up the candidates that are not scored yet, before the first is, which may be hours before the last.

    Raises:
        UserError: if the collection lacks one.
    """
    wanted: set[str] = set()
    for query, doc_ids in itertools.chain.from_iterable(batches):
        wanted.update(doc_id for doc_id in doc_ids if doc_id not in found[query.query_id])
    if unknown := unknown_ids(documents, wanted):
        raise UserError(
            f"{len(unknown)} documents of the run are not in the collection, such as {min(unknown)!r}; "
            f"check dataset.documents, and that the run is over these documents"
        )


def _ranked(found: Mapping[str, Mapping[str, float]]) -> Iterator[ScoredDoc]:
    for query_id, score_of in found.items():
        for doc_id in in_rank_order(score_of):
            yield ScoredDoc(query_id, doc_id, score_of[doc_id])


def _scored_before(work: Path | None) -> Iterator[ScoredDoc]:
    """What a killed process has scored: one run file per batch of queries."""
    for path in sorted(work.glob("*.run")) if work is not None else ():
        yield from read_run(path)


def _prefix(work: Path | None, batch: Sequence[Candidates]) -> Path | None:
    """How the names of a batch's files begin."""
    return None if work is None else batch_prefix(work, [(query.query_id, doc_ids) for query, doc_ids in batch])


def check_depth(depth: int | None, setting: str = "re_rank.depth") -> None:
    """Refuse a depth below 1, and one that is not a whole number."""
    if not isinstance(depth, Integral) or depth < 1:
        raise UserError(f"{setting}={depth}: set it to a whole number from 1, the documents to score per query")


def candidates_of(
    run: RunSource, queries: Sequence[Query], depth: int, *, remove_query: bool = False
) -> list[Candidates]:
    """Pair every query with its top `depth` documents, not counting the one with its own id if `remove_query`."""
    lines = _ranked_by_score(run, depth) if isinstance(run, ScoredDocs) else lines_of_run(run)
    heads: Mapping[str, list[str]] = run_heads(lines, depth + remove_query)
    if remove_query:
        heads = {query: [each for each in found if each != query][:depth] for query, found in heads.items()}
    rankings = [(query, heads.get(query.query_id, [])) for query in queries]
    if not any(doc_ids for _, doc_ids in rankings):
        name = f"{run}" if isinstance(run, str | Path | ScoredDocs) else "the run"
        raise UserError(f"{name} answers none of the queries (dataset.test); give a run over these queries")
    return rankings


def _ranked_by_score(run: ScoredDocs, depth: int) -> Iterator[ScoredDoc]:
    """The lines of a run, whose top documents are not known if it has no scores.

    Raises:
        UserError: if a query has more than `depth` documents, all with the same score.
    """
    counts: Counter[str] = Counter()
    scores: dict[str, set[float]] = {}
    for line in run:
        counts[line.query_id] += 1
        if len(found := scores.setdefault(line.query_id, set())) < 2:
            found.add(line.score)
        yield line
    unknown = [counts[query_id] for query_id, found in scores.items() if len(found) == 1 and counts[query_id] > depth]
    if unknown:
        raise UserError(
            f"{run} have no scores, so the top {depth} of a query's {max(unknown):,} are not known; set "
            f"re_rank.depth={max(unknown)} to score all, or re_rank=bm25"
        )


def _batches(rankings: Sequence[Candidates], size: int, *, most: int) -> Iterator[list[Candidates]]:
    """Batches of at most `size` queries and `most` candidates; a query with more candidates is its own batch."""
    batch: list[Candidates] = []
    held = 0
    for query, doc_ids in rankings:
        if batch and (len(batch) == size or held + len(doc_ids) > most):
            yield batch
            batch, held = [], 0
        batch.append((query, doc_ids))
        held += len(doc_ids)
    if batch:
        yield batch


@torch.inference_mode()
def _scores(
    scorer: Model,
    batch: Sequence[Candidates],
    documents: Documents,
    budget: TokenBudget,
    prefix: Path | None,
    advance: Callable[[int], object],
    in_precision: Lowered = nullcontext,
) -> list[list[float]]:
    """The scores of a batch of queries, in the order of their candidates; `advance` is called with numbers of pairs."""
    wanted = sorted({doc_id for _, doc_ids in batch for doc_id in doc_ids})
    texts = documents.get_many(wanted)
    if isinstance(scorer, CrossEncoder):
        lists = [(query.text, [texts[doc_id].text for doc_id in doc_ids]) for query, doc_ids in batch]
        parts = Parts(prefix, advance=lambda rows: advance(len(rows)))
        with in_precision():
            return [scores.tolist() for scores in scorer.score_lists(lists, budget=budget, parts=parts)]
    assert isinstance(scorer, BiEncoder)
    row_of = {doc_id: row for row, doc_id in enumerate(wanted)}
    pairs = Counter(row_of[doc_id] for _, doc_ids in batch for doc_id in doc_ids)
    parts = Parts(prefix, advance=lambda rows: advance(sum(pairs[row] for row in rows)))
    with in_precision():
        document_vectors = scorer.embed_documents([texts[doc_id].text for doc_id in wanted], budget=budget, parts=parts)
    query_vectors = scorer.embed_queries([query.text for query, _ in batch], budget=budget)
    return [
        compare(
            take(query_vectors, slice(row, row + 1)),
            take(document_vectors, np.array([row_of[doc_id] for doc_id in doc_ids], dtype=np.int64)),
        )[0].tolist()
        if doc_ids
        else []
        for row, (_, doc_ids) in enumerate(batch)
    ]
