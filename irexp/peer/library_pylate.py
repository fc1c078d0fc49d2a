"""PyLate at work, with its defaults: ColBERT alone; see `irexp.peer.worker`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pylate import losses, models, utils
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from irexp.peer.trainer import train_with
from irexp.peer.training import Training
from irexp.peer.work import Encoder


def open_encoder(model: str, folder: str, query_length: int, document_length: int, device: str) -> Encoder:
    """A ColBERT, with the lengths that its folder says."""
    opened = models.ColBERT(folder, device=device)
    return lambda texts, work: np.concatenate(opened.encode(texts, is_query=False, show_progress_bar=False))


def train(training: Training, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    model = models.ColBERT(training.initial, device=training.device)
    loss = losses.Contrastive(model, temperature=training.temperature)
    classes = SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    return train_with(training, folder, model, loss, classes, collator=utils.ColBERTCollator(model.tokenize))
