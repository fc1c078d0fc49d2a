"""Validation by retrieval: an exact search of the development queries in a sample of the collection, or all of it.

A cross-encoder re-ranks BM25's results in that sample.

Shapes: Q queries.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from irexp.config.schema import Training
from irexp.dataset.collection import Documents, Topics
from irexp.index.bm25 import BM25Index
from irexp.index.exact import Exact
from irexp.index.index import Index
from irexp.index.ranking import Ranking, rank
from irexp.index.texts import Texts
from irexp.index.vectors import Vectors, first_faulty
from irexp.model.batching import token_budget_batches
from irexp.model.bi_encoder import BiEncoder, in_order
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.training.sparsity import sparsity
from irexp.training.validation_sample import Sample, draw_sample
from irexp.types import ScoredDoc, Tokens, UserError

log = logging.getLogger(__name__)


@dataclass
class ValidationBatch:
    """Queries or documents to encode, or pairs to score, and the rows of their results; `part` numbers their set."""

    tokens: Tokens
    is_query: bool
    rows: list[int]
    sizes: list[int]
    part: int = 0

    def to(self, device: torch.device) -> ValidationBatch:
        """The batch on a device."""
        return replace(self, tokens=self.tokens.to(device))


@dataclass(frozen=True)
class Validated:
    """The result of a validation.

    Attributes:
        values: the means over the queries by name; the measure that selects the checkpoint comes first.
        value_Q: the values of that measure per query, in an order that is the same at each validation.
    """

    values: dict[str, float]
    value_Q: NDArray[np.float64]


class Validation(Dataset[ValidationBatch], ABC):
    """A sample of queries and documents: its batches by number, their collected results, and the measures."""

    def __init__(self, sample: Sample) -> None:
        """Keep the sample."""
        self.sample = sample
        self._doc_ids = [document.doc_id for document in sample.documents]
        log.info("validation: %d queries in %d documents", len(sample.queries), len(sample.documents))

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches."""

    @abstractmethod
    def collect(self, batch: ValidationBatch) -> None:
        """Encode or score a batch and keep the result."""

    @abstractmethod
    def run(self) -> list[ScoredDoc]:
        """The rankings, after every batch is collected."""

    def measure(self) -> Validated:
        """The measures over all queries, and a sparse model's sparsity."""
        run = self.run()
        if not run:
            log.warning(
                "no query of the validation retrieves a document, since the embeddings are empty: lower the weights of "
                "the regularizer, or training.learning_rate"
            )
            zeros = {str(measure): 0.0 for measure in self.sample.measures}
            return Validated({**zeros, **self.sparsity()}, np.zeros(len(self.sample.queries)))
        measured = self.sample.measure(run)
        selecting = next(iter(measured.aggregated))
        value_of = measured.per_query[selecting]
        value_Q = np.array([value_of[query.query_id] for query in self.sample.queries])
        return Validated({**measured.aggregated, **self.sparsity()}, value_Q)

    def sparsity(self) -> dict[str, float]:
        """How sparse the embeddings of the last run are; empty if they are not."""
        return {}

    def _ranked(self, index: Index, queries: Any, depth: int) -> list[Ranking]:
        """The rankings of the sample's queries, without the document that is the query, if that is left out."""
        if not self.sample.remove_query:
            return list(rank(index, queries, depth, doc_ids=self._doc_ids))
        found = rank(index, queries, depth + 1, doc_ids=self._doc_ids)
        return [
            [(doc_id, score) for doc_id, score in ranking if doc_id != query.query_id][:depth]
            for query, ranking in zip(self.sample.queries, found, strict=True)
        ]


class Retrieval(Validation):
    """Validation of a bi-encoder: an exact search over the embeddings."""

    def __init__(self, sample: Sample, model: BiEncoder, *, token_budget: int) -> None:
        """Tokenize the sample."""
        super().__init__(sample)
        self._model = model
        self._tokens = {
            True: model.tokenize_queries([query.text for query in sample.queries]),
            False: model.tokenize_documents([document.text for document in sample.documents]),
        }
        self._batches = [
            (is_query, rows)
            for is_query, token_ids in self._tokens.items()
            for rows in token_budget_batches([len(tokens) for tokens in token_ids], token_budget)
        ]
        self._parts: dict[bool, list[tuple[Vectors, list[int]]]] = {True: [], False: []}
        self._sparsity: dict[str, float] = {}

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
        self._sparsity = sparsity(vectors[True], vectors[False])
        index = Exact(self._model.representation)
        index.add(vectors[False])
        rankings = self._ranked(index, vectors[True], self.sample.depth)
        return [
            ScoredDoc(query.query_id, doc_id, score)
            for query, ranking in zip(self.sample.queries, rankings, strict=True)
            for doc_id, score in ranking
        ]

    def sparsity(self) -> dict[str, float]:
        """How sparse the embeddings of the last run are; empty for a dense model and one of token vectors."""
        return self._sparsity


class ReRanking(Validation):
    """Validation of a cross-encoder: BM25's results in the sample, re-ranked."""

    def __init__(self, sample: Sample, model: CrossEncoder, *, depth: int, token_budget: int) -> None:
        """Search with BM25, in words of any script if words of English leave a query without a document, and tokenize.

        Raises:
            UserError: if nothing is found.
        """
        super().__init__(sample)
        self._model = model
        queries, rankings = sample.queries, self._candidates(BM25Index(), depth)
        if not all(rankings):  # words that the analysis for English has not found
            others = self._candidates(BM25Index(stemmer=None, stop_words="none", analyzer="unicode"), depth)
            rankings = max(rankings, others, key=lambda found: sum(map(bool, found)))
        if not any(rankings):
            raise UserError(
                "the validation has nothing to re-rank: BM25 finds no document of its sample for any of its queries; "
                "check dataset.dev, raise training.validation_documents, or set training.validate_every=null"
            )
        text_of = {document.doc_id: document.text for document in sample.documents}
        self._found = [(q.query_id, d) for q, ranking in zip(queries, rankings, strict=True) for d, _ in ranking]
        texts = [query.text for query, ranking in zip(queries, rankings, strict=True) for _ in ranking]
        self._pairs = model.tokenize_pairs(texts, [text_of[doc_id] for _, doc_id in self._found])
        self._batches = list(model.batches(self._pairs, [len(ranking) for ranking in rankings], token_budget))
        self._scores = np.empty(len(self._pairs), dtype=np.float32)

    def _candidates(self, first_stage: BM25Index, depth: int) -> list[Ranking]:
        """What a first stage finds in the sample for each query."""
        with TemporaryDirectory() as folder:
            first_stage.build(Texts(self.sample.documents), Path(folder))
            first_stage.load(Path(folder))
            return self._ranked(first_stage, [query.text for query in self.sample.queries], depth)

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
    documents: Documents,
    topics: Topics,
    model: Model,
    training: Training,
    *,
    seed: int,
    token_budget: int,
    where: str = "dataset.dev",
) -> Validation:
    """Draw the sample and tokenize it for a model.

    Args:
        documents: the collection.
        topics: the development queries.
        model: a bi-encoder searches the whole sample, a cross-encoder re-ranks BM25's results in it.
        training: `validation_queries`, `validation_documents`, `validation_depth` and the measures.
        seed: decides the sample.
        token_budget: tokens per batch, padding included.
        where: the key that names the queries, for messages.

    Raises:
        UserError: if no query has a relevant document in the collection.
    """
    sample = draw_sample(documents, topics, training, seed=seed, where=where)
    if isinstance(model, CrossEncoder):
        return ReRanking(sample, model, depth=training.validation_depth, token_budget=token_budget)
    assert isinstance(model, BiEncoder)
    return Retrieval(sample, model, token_budget=token_budget)
