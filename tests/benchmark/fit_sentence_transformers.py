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
        dense = library.SentenceTransformer(job.initial, device="cpu")
        classes = library.SentenceTransformerTrainer, library.SentenceTransformerTrainingArguments
        loss = MultipleNegativesRankingLoss(dense, scale=scale)
        return train_with(job, folder, dense, loss, classes, router_mapping=_SIDES)
    if job.model == "colbert":
        tokens = library.MultiVectorEncoder(job.initial, device="cpu")
        prompts = {side: prompt or "" for side, prompt in tokens.prompts.items()}  # the markers
        of_tokens = library.MultiVectorEncoderTrainer, library.MultiVectorEncoderTrainingArguments
        maxsim_loss = MultiVectorMultipleNegativesRankingLoss(tokens, scale=scale)
        return train_with(job, folder, tokens, maxsim_loss, of_tokens, prompts=prompts)
    sparse = library.SparseEncoder(job.initial, device="cpu")
    splade_loss = SpladeLoss(
        sparse,
        SparseMultipleNegativesRankingLoss(sparse, scale=scale, similarity_fct=dot_score),
        document_regularizer_weight=job.document_weight,
        query_regularizer_weight=job.query_weight,
    )
    ramp = SpladeRegularizerWeightSchedulerCallback(splade_loss, warmup_ratio=job.ramp)
    of_sparse = library.SparseEncoderTrainer, library.SparseEncoderTrainingArguments
    return train_with(job, folder, sparse, splade_loss, of_sparse, callbacks=[ramp], router_mapping=_SIDES)
