"""The sample of a collection that a validation searches: judged queries, their relevant documents, and others."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

import ir_measures

from irexp.config.schema import Training
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.measures import Measured, evaluate, parse_measures
from irexp.types import Document, Qrel, Query, ScoredDoc, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """What a validation searches, and how it is measured.

    Attributes:
        queries: the queries, each with a relevant document.
        qrels: their judgements.
        documents: all relevant documents, and others.
        measures: the first one selects the checkpoint.
        relevance: the smallest relevant grade for binary measures that do not name one; None for 1.
        remove_query: whether the document with the query's id is dropped from results.
    """

    queries: list[Query]
    qrels: list[Qrel]
    documents: list[Document]
    measures: list[ir_measures.Measure]
    relevance: int | None = None
    remove_query: bool = False

    @property
    def depth(self) -> int:
        """The documents per query that the measures need; at least 100, for measures without a cutoff."""
        return max(100, *(int(measure.params.get("cutoff", 0)) for measure in self.measures))

    def measure(self, run: list[ScoredDoc]) -> Measured:
        """The measures of a run, per query and aggregated."""
        return evaluate(run, self.qrels, self.measures, relevance=self.relevance, remove_query=self.remove_query)


def measures_of(training: Training) -> list[ir_measures.Measure]:
    """The measures of each validation: `select_by`, then `validation_measures` without it."""
    selecting = parse_measures([training.select_by])
    further = parse_measures(training.validation_measures) if training.validation_measures else []
    return selecting + [measure for measure in further if measure not in selecting]


def draw_sample(documents: Documents, topics: Topics, training: Training, *, seed: int, where: str) -> Sample:
    """Draw the queries and documents of a validation.

    Args:
        documents: the collection.
        topics: the development queries.
        training: `validation_queries`, `validation_documents`, and the measures.
        seed: decides the sample.
        where: the key that names the queries, for messages.

    Raises:
        UserError: if no query has a relevant document in the collection.
    """
    queries, qrels = _sample_queries(topics, training.validation_queries, seed, where)
    sampled = _sample_documents(documents, qrels, training.validation_documents, seed, where)
    return Sample(queries, qrels, sampled, measures_of(training), topics.relevance, topics.remove_query)


def _sample_queries(topics: Topics, count: int | None, seed: int, where: str) -> tuple[list[Query], list[Qrel]]:
    judged = {qrel.query_id for qrel in topics.qrels() if qrel.relevance > 0}
    queries = [query for query in topics.queries() if query.query_id in judged]
    if not queries:
        raise UserError(f"no development query has a relevant document; check {where}")
    if count is not None and count < len(queries):
        queries = random.Random(seed).sample(queries, count)
    kept = {query.query_id for query in queries}
    return queries, [qrel for qrel in topics.qrels() if qrel.query_id in kept]


def _sample_documents(
    documents: Documents, qrels: list[Qrel], count: int | None, seed: int, where: str
) -> list[Document]:
    """The relevant documents and, up to `count`, others drawn at random in one pass (reservoir sampling)."""
    relevant = {qrel.doc_id for qrel in qrels if qrel.relevance > 0}
    kept: list[Document] = []
    drawn: list[Document] = []
    room = None if count is None else max(0, count - len(relevant))
    generator, seen = random.Random(seed), 0
    for document in documents:
        if document.doc_id in relevant:
            kept.append(document)
            continue
        seen += 1
        if room is None or len(drawn) < room:
            drawn.append(document)
        elif (place := generator.randrange(seen)) < room:
            drawn[place] = document
    if missing := len(relevant) - len(kept):
        log.warning(
            "%d of %d relevant documents of the development queries are not in the collection", missing, len(relevant)
        )
    if not kept:
        raise UserError(f"no relevant document of the development queries is in the collection; check {where}")
    return kept + drawn
