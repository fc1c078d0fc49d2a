"""Validation by retrieval: an exact search of the development queries in a sample of the collection, or all of it.

A cross-encoder re-ranks BM25's results in that sample.
"""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import ir_measures
import numpy as np
import torch
from torch.utils.data import Dataset

from irexp.config.schema import Training
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.index.bm25 import BM25Index
from irexp.index.exact import Exact
from irexp.index.ranking import rank
from irexp.index.texts import Texts
from irexp.index.vectors import Vectors, first_faulty
from irexp.model.batching import token_budget_batches
from irexp.model.bi_encoder import BiEncoder, in_order
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.types import Document, Qrel, Query, ScoredDoc, Tokens, UserError

log = logging.getLogger(__name__)


@dataclass
class ValidationBatch:
    """Queries or documents to encode, or pairs to score, and the rows of their results."""

    tokens: Tokens
    is_query: bool
    rows: list[int]
    sizes: list[int]

    def to(self, device: torch.device) -> ValidationBatch:
        """The batch on a device."""
        return ValidationBatch(self.tokens.to(device), self.is_query, self.rows, self.sizes)


class Validation(Dataset[ValidationBatch], ABC):
    """A sample of queries and documents: its batches by number, their collected results, and the measure."""

    def __init__(
        self, queries: list[Query], qrels: list[Qrel], documents: list[Document], measure: ir_measures.Measure
    ) -> None:
        """Keep the ids and judgements of the sample."""
        self._query_ids = [query.query_id for query in queries]
        self._doc_ids = [document.doc_id for document in documents]
        self._qrels, self._measure = qrels, measure
        self.relevance: int | None = None
        self.remove_query = False
        log.info("validation: %d queries in %d documents", len(queries), len(documents))

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches."""

    @abstractmethod
    def collect(self, batch: ValidationBatch) -> None:
        """Encode or score a batch and keep the result."""

    @abstractmethod
    def run(self) -> list[ScoredDoc]:
        """The rankings, after every batch is collected."""

    def measure(self) -> tuple[str, float]:
        """The measure's name and value, over all queries."""
        measured = evaluate(
            self.run(), self._qrels, [self._measure], relevance=self.relevance, remove_query=self.remove_query
        )
        ((name, value),) = measured.aggregated.items()
        return name, value


class Retrieval(Validation):
    """Validation of a bi-encoder: an exact search over the embeddings."""

    def __init__(
        self,
        queries: list[Query],
        qrels: list[Qrel],
        documents: list[Document],
        measure: ir_measures.Measure,
        model: BiEncoder,
        *,
        token_budget: int,
    ) -> None:
        """Tokenize the sample."""
        super().__init__(queries, qrels, documents, measure)
        self._model = model
        self._tokens = {
            True: model.tokenize_queries([query.text for query in queries]),
            False: model.tokenize_documents([document.text for document in documents]),
        }
        self._batches = [
            (is_query, rows)
            for is_query, token_ids in self._tokens.items()
            for rows in token_budget_batches([len(tokens) for tokens in token_ids], token_budget)
        ]
        self._parts: dict[bool, list[tuple[Vectors, list[int]]]] = {True: [], False: []}

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> ValidationBatch:
        is_query, rows = self._batches[number]
        tokens = self._model.pad([self._tokens[is_query][row] for row in rows], is_query=is_query)
        return ValidationBatch(tokens, is_query, rows, [])

    def collect(self, batch: ValidationBatch) -> None:
        """Keep the vectors of a batch."""
        encode = self._model.encode_queries if batch.is_query else self._model.encode_documents
        self._parts[batch.is_query].append((self._model.to_vectors(encode(batch.tokens)), batch.rows))

    def run(self) -> list[ScoredDoc]:
        """The rankings of an exact search."""
        vectors = {
            side: in_order([vectors for vectors, _ in parts], [row for _, rows in parts for row in rows])
            for side, parts in self._parts.items()
        }
        self._parts = {True: [], False: []}
        if any(first_faulty(found) is not None for found in vectors.values()):
            raise UserError(
                "the model's embeddings are not finite: the training has diverged; lower training.learning_rate or "
                "use training.precision=32-true"
            )
        index = Exact(self._model.representation)
        index.add(vectors[False])
        depth = max(100, int(self._measure.params.get("cutoff", 0)))
        rankings = rank(index, vectors[True], depth, doc_ids=self._doc_ids)
        return [
            ScoredDoc(query_id, doc_id, score)
            for query_id, ranking in zip(self._query_ids, rankings, strict=True)
            for doc_id, score in ranking
        ]


class ReRanking(Validation):
    """Validation of a cross-encoder: BM25's results in the sample, re-ranked."""

    def __init__(
        self,
        queries: list[Query],
        qrels: list[Qrel],
        documents: list[Document],
        measure: ir_measures.Measure,
        model: CrossEncoder,
        *,
        depth: int,
        token_budget: int,
    ) -> None:
        """Search with BM25 and tokenize the pairs."""
        super().__init__(queries, qrels, documents, measure)
        self._model = model
        first_stage = BM25Index()
        with TemporaryDirectory() as folder:
            first_stage.build(Texts(documents), Path(folder))
            first_stage.load(Path(folder))
            rankings = rank(first_stage, [query.text for query in queries], depth, doc_ids=self._doc_ids)
        text_of = {document.doc_id: document.text for document in documents}
        self._found = [(q.query_id, d) for q, ranking in zip(queries, rankings, strict=True) for d, _ in ranking]
        texts = [query.text for query, ranking in zip(queries, rankings, strict=True) for _ in ranking]
        self._pairs = model.tokenize_pairs(texts, [text_of[doc_id] for _, doc_id in self._found])
        self._batches = list(model.batches(self._pairs, [len(ranking) for ranking in rankings], token_budget))
        self._scores = np.empty(len(self._pairs), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> ValidationBatch:
        rows, sizes = self._batches[number]
        return ValidationBatch(self._model.pad([self._pairs[row] for row in rows]), False, rows, sizes)

    def collect(self, batch: ValidationBatch) -> None:
        """Keep the scores of a batch."""
        self._scores[batch.rows] = self._model.score_pairs(batch.tokens, batch.sizes).float().cpu().numpy()

    def run(self) -> list[ScoredDoc]:
        """The rankings by the model's scores."""
        if not np.isfinite(self._scores).all():
            raise UserError(
                "the model's scores are not finite: the training has diverged; lower training.learning_rate or use "
                "training.precision=32-true"
            )
        return [
            ScoredDoc(query_id, doc_id, float(score))
            for (query_id, doc_id), score in zip(self._found, self._scores, strict=True)
        ]


def make_validation(
    documents: Documents, topics: Topics, model: Model, training: Training, *, seed: int, token_budget: int
) -> Validation:
    """Draw the sample and tokenize it for a model.

    Args:
        documents: the collection.
        topics: the development queries.
        model: a bi-encoder searches the whole sample, a cross-encoder re-ranks BM25's results in it.
        training: `validation_queries`, `validation_documents`, `validation_depth` and `select_by`.
        seed: decides the sample.
        token_budget: tokens per batch, padding included.

    Raises:
        UserError: if no query has a relevant document in the collection.
    """
    (measure,) = parse_measures([training.select_by])
    queries, qrels = _sample_queries(topics, training.validation_queries, seed)
    sampled = _sample_documents(documents, qrels, training.validation_documents, seed)
    validation: Validation
    if isinstance(model, CrossEncoder):
        depth = training.validation_depth
        validation = ReRanking(queries, qrels, sampled, measure, model, depth=depth, token_budget=token_budget)
    else:
        assert isinstance(model, BiEncoder)
        validation = Retrieval(queries, qrels, sampled, measure, model, token_budget=token_budget)
    validation.relevance, validation.remove_query = topics.relevance, topics.remove_query
    return validation


def _sample_queries(topics: Topics, count: int | None, seed: int) -> tuple[list[Query], list[Qrel]]:
    judged = {qrel.query_id for qrel in topics.qrels() if qrel.relevance > 0}
    queries = [query for query in topics.queries() if query.query_id in judged]
    if not queries:
        raise UserError("no development query has a relevant document; check dataset.dev")
    if count is not None and count < len(queries):
        queries = random.Random(seed).sample(queries, count)
    kept = {query.query_id for query in queries}
    return queries, [qrel for qrel in topics.qrels() if qrel.query_id in kept]


def _sample_documents(documents: Documents, qrels: list[Qrel], count: int | None, seed: int) -> list[Document]:
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
        raise UserError("no relevant document of the development queries is in the collection; check dataset.dev")
    return kept + drawn
