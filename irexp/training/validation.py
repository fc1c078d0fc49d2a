"""Validation by true retrieval: the development queries searched, exactly, in a sample of the collection or all of it.

Shapes: B texts, H embedding dimensions.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from irexp.config.schema import Training
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.index.faiss_flat import FaissFlat
from irexp.index.ranking import rank
from irexp.model.batching import token_budget_batches
from irexp.model.bi_encoder import BiEncoder
from irexp.types import Document, Qrel, Query, ScoredDoc, Tokens, UserError

log = logging.getLogger(__name__)


@dataclass
class ValidationBatch:
    """Texts of one side to encode, and where their vectors go."""

    tokens: Tokens
    is_query: bool
    rows: list[int]

    def to(self, device: torch.device) -> ValidationBatch:
        """The batch on a device."""
        return ValidationBatch(self.tokens.to(device), self.is_query, self.rows)


class Validation(Dataset[ValidationBatch]):
    """What is searched for and in what: batches by number, their vectors collected, and the measure they come to."""

    def __init__(
        self,
        documents: Documents,
        topics: Topics,
        model: BiEncoder,
        training: Training,
        *,
        seed: int,
        token_budget: int,
    ) -> None:
        """Draw the sample and tokenize it.

        Args:
            documents: the collection.
            topics: the development queries.
            model: how texts are tokenized, and how many dimensions vectors have.
            training: `validation_queries`, `validation_documents` and `select_by`.
            seed: decides the sample.
            token_budget: tokens of a batch, padding included.

        Raises:
            UserError: if no query has a relevant document in the collection.
        """
        self._model = model
        (self._measure,) = parse_measures([training.select_by])
        queries, self._qrels = _sample_queries(topics, training.validation_queries, seed)
        sampled = _sample_documents(documents, self._qrels, training.validation_documents, seed)
        self._query_ids = [query.query_id for query in queries]
        self._doc_ids = [document.doc_id for document in sampled]
        self._tokens = {
            True: model.tokenize_queries([query.text for query in queries]),
            False: model.tokenize_documents([document.text for document in sampled]),
        }
        self._batches = [
            (is_query, rows)
            for is_query, token_ids in self._tokens.items()
            for rows in token_budget_batches([len(tokens) for tokens in token_ids], token_budget)
        ]
        self._vectors = {
            side: np.empty((len(token_ids), model.embedding_dim), dtype=np.float32)
            for side, token_ids in self._tokens.items()
        }
        log.info("validation: %d queries in %d documents", len(queries), len(sampled))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> ValidationBatch:
        is_query, rows = self._batches[number]
        tokens = self._model.pad([self._tokens[is_query][row] for row in rows], is_query=is_query)
        return ValidationBatch(tokens, is_query, rows)

    def collect(self, batch: ValidationBatch, vector_BH: Tensor) -> None:
        """Keep the vectors of a batch."""
        self._vectors[batch.is_query][batch.rows] = vector_BH.float().cpu().numpy()

    def measure(self) -> tuple[str, float]:
        """The measure's name and value, over all queries, once every batch is collected."""
        if not np.isfinite(self._vectors[True]).all() or not np.isfinite(self._vectors[False]).all():
            raise UserError(
                "the model's embeddings are not finite: the training has diverged; lower training.learning_rate or "
                "use training.precision=32-true"
            )
        index = FaissFlat()
        index.add(self._vectors[False])
        depth = max(100, int(self._measure.params.get("cutoff", 0)))
        rankings = rank(index, self._vectors[True], depth, doc_ids=self._doc_ids)
        run = [
            ScoredDoc(query_id, doc_id, score)
            for query_id, ranking in zip(self._query_ids, rankings, strict=True)
            for doc_id, score in ranking
        ]
        ((name, value),) = evaluate(run, self._qrels, [self._measure]).aggregated.items()
        return name, value


def _sample_queries(topics: Topics, count: int | None, seed: int) -> tuple[list[Query], list[Qrel]]:
    judged = {qrel.query_id for qrel in topics.qrels() if qrel.relevance > 0}
    queries = [query for query in topics.queries() if query.query_id in judged]
    if not queries:
        raise UserError("no development query has a relevant document; look at dataset.dev")
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
        log.warning("%d of %d relevant documents of the development queries are unknown", missing, len(relevant))
    if not kept:
        raise UserError("no relevant document of the development queries is in the collection; look at dataset.dev")
    return kept + drawn
