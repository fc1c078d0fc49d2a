"""The stage that makes a run of another one: the head of each ranking, scored anew by any model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from irexp.config.schema import Machine, ReRank
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.run_file import in_rank_order, read_heads, write_run
from irexp.index.compare import compare
from irexp.index.vectors import take
from irexp.model.batching import TokenBudget
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.stage.encode import open_model
from irexp.stage.machine import prepare
from irexp.stage.run import RUN, run_file
from irexp.types import Query, ScoredDoc, UserError

log = logging.getLogger(__name__)

#: Tokens of the candidates that are held at once: 2 GiB of vectors of 128 dimensions in fp32, one for each token.
_TOKENS = 2**22

#: A query with the ids of its candidates.
Candidates = tuple[Query, list[str]]


def re_rank(
    folder: Path,
    candidates: Path,
    checkpoint: str,
    *,
    model: partial[Model],
    documents: Documents,
    topics: Topics,
    re_rank: ReRank,
    machine: Machine,
) -> dict[str, float]:
    """Score the best `re_rank.depth` documents of each query of a run anew and write the run into `folder`.

    Returns:
        The number of queries, of pairs that were scored, and of queries without a candidate.
    """
    if re_rank.depth is None or re_rank.depth < 1:
        raise UserError(f"re_rank.depth={re_rank.depth}: how many documents a query are scored anew?")
    scorer = open_model(checkpoint, model).to(prepare(machine))
    rankings = _read(candidates, topics, re_rank.depth)
    total = sum(len(doc_ids) for _, doc_ids in rankings)
    budget = TokenBudget(machine.token_budget)
    lines: list[ScoredDoc] = []
    with tqdm(total=total, unit=" pairs", desc="re_rank", disable=not machine.progress) as progress:
        for batch in _batches(rankings, machine.query_batch, most=max(1, _TOKENS // scorer.document_length)):
            for (query, doc_ids), scores in zip(batch, _scores(scorer, batch, documents, budget), strict=True):
                score_of = dict(zip(doc_ids, scores, strict=True))
                lines += [ScoredDoc(query.query_id, d, score_of[d]) for d in in_rank_order(score_of)]
                progress.update(len(doc_ids))
    write_run(folder / RUN, lines, tag="irexp")
    empty = sum(not doc_ids for _, doc_ids in rankings)
    if empty:
        log.warning("%d of %d queries have no candidate", empty, len(rankings))
    return {"queries": float(len(rankings)), "pairs": float(total), "queries_without_candidate": float(empty)}


def _read(candidates: Path, topics: Topics, depth: int) -> list[Candidates]:
    """Every query with the head of its ranking."""
    found = read_heads(run_file(candidates), depth)
    rankings = [(query, found.get(query.query_id, [])) for query in topics.queries()]
    if not any(doc_ids for _, doc_ids in rankings):
        raise UserError(f"{candidates} answers none of the queries of dataset.test; is it a run of another collection?")
    return rankings


def _batches(rankings: list[Candidates], size: int, *, most: int) -> Iterator[list[Candidates]]:
    """So many queries at a time, but no more than have `most` candidates together, unless one alone has more."""
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
def _scores(scorer: Model, batch: Sequence[Candidates], documents: Documents, budget: TokenBudget) -> list[list[float]]:
    """The scores of a batch of queries, in the order of their candidates."""
    wanted = sorted({doc_id for _, doc_ids in batch for doc_id in doc_ids})
    texts = documents.get_many(wanted)
    if unknown := [doc_id for doc_id in wanted if doc_id not in texts]:
        raise UserError(
            f"{len(unknown)} documents of the run are not in the collection, such as {unknown[0]!r}; look at "
            f"dataset.documents and re_rank.candidates"
        )
    if isinstance(scorer, CrossEncoder):
        lists = [(query.text, [texts[doc_id].text for doc_id in doc_ids]) for query, doc_ids in batch]
        return [scores.tolist() for scores in scorer.score_lists(lists, budget=budget)]
    assert isinstance(scorer, BiEncoder)
    document_vectors = scorer.embed_documents([texts[doc_id].text for doc_id in wanted], budget=budget)
    query_vectors = scorer.embed_queries([query.text for query, _ in batch], budget=budget)
    row_of = {doc_id: row for row, doc_id in enumerate(wanted)}
    return [
        compare(
            take(query_vectors, slice(row, row + 1)),
            take(document_vectors, np.array([row_of[doc_id] for doc_id in doc_ids], dtype=np.int64)),
        )[0].tolist()
        if doc_ids
        else []
        for row, (_, doc_ids) in enumerate(batch)
    ]
