"""A training in sentence-transformers, or in PyLate with its trainer, for `tests.benchmark.fit_peers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentence_transformers as library
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from sentence_transformers.util import dot_score
from torch.utils.data import SequentialSampler

from tests.benchmark.fit_job import CLIP_NORM, Job, make_optimizer

#: Which side's length cuts each column.
_SIDES = {"query": "query", "document": "document"}


def train(job: Job, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    scale = 1 / job.temperature
    if job.model == "sbert":
        model = library.SentenceTransformer(job.initial, device="cpu")
        loss = MultipleNegativesRankingLoss(model, scale=scale)
        classes = library.SentenceTransformerTrainer, library.SentenceTransformerTrainingArguments
        return _train(job, folder, model, loss, classes, router_mapping=_SIDES)
    if job.model == "colbert":
        model = library.MultiVectorEncoder(job.initial, device="cpu")
        loss = MultiVectorMultipleNegativesRankingLoss(model, scale=scale)
        classes = library.MultiVectorEncoderTrainer, library.MultiVectorEncoderTrainingArguments
        return _train(job, folder, model, loss, classes, prompts=model.prompts)  # the markers
    model = library.SparseEncoder(job.initial, device="cpu")
    loss = SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model, scale=scale, similarity_fct=dot_score),
        document_regularizer_weight=job.document_weight,
        query_regularizer_weight=job.query_weight,
    )
    ramp = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=job.ramp)
    classes = library.SparseEncoderTrainer, library.SparseEncoderTrainingArguments
    return _train(job, folder, model, loss, classes, callbacks=[ramp], router_mapping=_SIDES)


def train_pylate(job: Job, folder: Path) -> float:
    """Train a ColBERT in PyLate, save, and return the loss of the probe before."""
    from pylate import losses, models, utils

    model = models.ColBERT(job.initial, device="cpu")
    loss = losses.Contrastive(model, temperature=job.temperature)
    classes = library.SentenceTransformerTrainer, library.SentenceTransformerTrainingArguments
    return _train(job, folder, model, loss, classes, collator=utils.ColBERTCollator(model.tokenize))


def _train(
    job: Job,
    folder: Path,
    model: Any,
    loss: Any,
    classes: tuple[Any, Any],
    *,
    collator: Any = None,
    callbacks: list[Any] | None = None,
    router_mapping: dict[str, str] | None = None,
    prompts: dict[str, str] | None = None,
) -> float:
    """Train with a trainer of sentence-transformers, whose default is the fused optimizer.

    Args:
        job: the training.
        folder: of the trained model.
        model: the model.
        loss: its loss.
        classes: of the trainer and of its arguments.
        collator: tokenizes a batch; None for the trainer's own.
        callbacks: of the trainer.
        router_mapping: the side of each column; None for the trainer's own.
        prompts: of each column; None for none.

    Returns:
        The loss of the probe before the training.
    """
    trainer_class, settings_class = classes
    settings = settings_class(
        output_dir=str(folder.parent / "trainer"),
        max_steps=job.steps,
        per_device_train_batch_size=job.batch_size,
        max_grad_norm=CLIP_NORM,
        seed=job.seed,
        use_cpu=True,
        batch_sampler=_in_order,
        router_mapping=router_mapping,
        prompts=prompts,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = trainer_class(
        model=model,
        args=settings,
        train_dataset=_columns(job.pairs()),
        loss=loss,
        data_collator=collator,
        callbacks=callbacks,
        optimizers=make_optimizer(model.parameters(), job, fused=True),
    )
    model.eval()
    with torch.no_grad():
        found = loss(*trainer.collect_features(trainer.data_collator(list(_columns(job.probe())))))
    trainer.train()
    model.save_pretrained(str(folder))
    return float(found["base_loss"] if isinstance(found, dict) else found)


def _columns(rows: list[dict[str, str]]) -> Any:
    return Dataset.from_dict({column: [row[column] for row in rows] for column in ("query", "document")})


def _in_order(dataset: Any, **settings: Any) -> Any:
    """Batches in the order of the data."""
    return DefaultBatchSampler(SequentialSampler(dataset), **settings)
