"""sentence-transformers at work, with its defaults; see `irexp.peer.worker`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sentence_transformers as library
import torch
from numpy.typing import NDArray
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from sentence_transformers.util import dot_score

from irexp.peer.training import Training
from irexp.peer.work import Encoder, Scorer, Work

#: Which side's length cuts each column.
_SIDES = {"query": "query", "document": "document"}


def open_encoder(model: str, folder: str, query_length: int, document_length: int, device: str) -> Encoder:
    """A bi-encoder, with the lengths that its folder says."""
    if model == "colbert":
        tokens = library.MultiVectorEncoder(folder, device=device)
        return lambda texts, work: np.concatenate([np.asarray(part) for part in tokens.encode_document(texts)])
    dense = library.SentenceTransformer(folder, device=device)
    return lambda texts, work: np.asarray(dense.encode_document(texts))


def open_scorer(model: str, folder: str, query_length: int, document_length: int, device: str) -> Scorer:
    """A cross-encoder, with the lengths that its folder says."""
    opened = library.CrossEncoder(folder, device=device)

    def compute(pairs: list[tuple[str, str]], work: Work) -> NDArray[np.float32]:
        return np.asarray(opened.predict(pairs, activation_fn=torch.nn.Identity()))

    return compute


def train(training: Training, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    from irexp.peer.trainer import train_with  # needs the package datasets, which encoding does not

    scale = 1 / training.temperature
    if training.model == "sbert":
        dense = library.SentenceTransformer(training.initial, device=training.device)
        classes = library.SentenceTransformerTrainer, library.SentenceTransformerTrainingArguments
        loss = MultipleNegativesRankingLoss(dense, scale=scale)
        return train_with(training, folder, dense, loss, classes, router_mapping=_SIDES)
    if training.model == "colbert":
        tokens = library.MultiVectorEncoder(training.initial, device=training.device)
        prompts = {side: prompt or "" for side, prompt in tokens.prompts.items()}  # the markers
        of_tokens = library.MultiVectorEncoderTrainer, library.MultiVectorEncoderTrainingArguments
        maxsim_loss = MultiVectorMultipleNegativesRankingLoss(tokens, scale=scale)
        return train_with(training, folder, tokens, maxsim_loss, of_tokens, prompts=prompts)
    sparse = library.SparseEncoder(training.initial, device=training.device)
    splade_loss = SpladeLoss(
        sparse,
        SparseMultipleNegativesRankingLoss(sparse, scale=scale, similarity_fct=dot_score),
        document_regularizer_weight=training.document_weight,
        query_regularizer_weight=training.query_weight,
    )
    ramp = SpladeRegularizerWeightSchedulerCallback(splade_loss, warmup_ratio=training.ramp)
    of_sparse = library.SparseEncoderTrainer, library.SparseEncoderTrainingArguments
    return train_with(training, folder, sparse, splade_loss, of_sparse, callbacks=[ramp], router_mapping=_SIDES)
