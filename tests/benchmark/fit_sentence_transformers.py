"""A training in sentence-transformers for `tests.benchmark.fit_peers`."""

from __future__ import annotations

from pathlib import Path

import sentence_transformers as library
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from sentence_transformers.util import dot_score

from tests.benchmark.fit_job import Job
from tests.benchmark.fit_trainer import train_with

#: Which side's length cuts each column.
_SIDES = {"query": "query", "document": "document"}


def train(job: Job, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    scale = 1 / job.temperature
    if job.model == "sbert":
        model = library.SentenceTransformer(job.initial, device="cpu")
        loss = MultipleNegativesRankingLoss(model, scale=scale)
        classes = library.SentenceTransformerTrainer, library.SentenceTransformerTrainingArguments
        return train_with(job, folder, model, loss, classes, router_mapping=_SIDES)
    if job.model == "colbert":
        model = library.MultiVectorEncoder(job.initial, device="cpu")
        loss = MultiVectorMultipleNegativesRankingLoss(model, scale=scale)
        classes = library.MultiVectorEncoderTrainer, library.MultiVectorEncoderTrainingArguments
        return train_with(job, folder, model, loss, classes, prompts=model.prompts)  # the markers
    model = library.SparseEncoder(job.initial, device="cpu")
    loss = SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model, scale=scale, similarity_fct=dot_score),
        document_regularizer_weight=job.document_weight,
        query_regularizer_weight=job.query_weight,
    )
    ramp = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=job.ramp)
    classes = library.SparseEncoderTrainer, library.SparseEncoderTrainingArguments
    return train_with(job, folder, model, loss, classes, callbacks=[ramp], router_mapping=_SIDES)
