"""A training in PyLate for `tests.benchmark.fit_peers`."""

from __future__ import annotations

from pathlib import Path

from pylate import losses, models, utils
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from tests.benchmark.fit_job import Job
from tests.benchmark.fit_trainer import train_with


def train(job: Job, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    model = models.ColBERT(job.initial, device="cpu")
    loss = losses.Contrastive(model, temperature=job.temperature)
    classes = SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    return train_with(job, folder, model, loss, classes, collator=utils.ColBERTCollator(model.tokenize))
