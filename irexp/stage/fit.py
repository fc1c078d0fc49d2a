"""The stage that makes a checkpoint: fine-tuning, with validation by retrieval and the best weights kept.

A killed training goes on from `.training/last.ckpt`, as if nothing had been: optimizer, schedule, batches and random
numbers. What is kept of it at the end is the checkpoint, in the layout of sentence-transformers, and `history.csv`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from irexp.config.schema import Machine, Training
from irexp.dataset.collection import Documents, Examples, Topics
from irexp.loss.loss import Loss
from irexp.model.bi_encoder import BiEncoder
from irexp.model.load import save
from irexp.stage.machine import prepare
from irexp.types import UserError


def fit(
    folder: Path,
    *,
    model: partial[BiEncoder],
    loss: Loss | None,
    documents: Documents,
    train: Examples | None,
    dev: Topics | None,
    training: Training,
    optimizer: Callable[..., Optimizer],
    schedule: Callable[..., float],
    machine: Machine,
    seed: int,
    logger: Any = None,
) -> dict[str, float]:
    """Fine-tune into `folder`, going on where a killed process stopped.

    Returns:
        The best validation and the step it was reached at, if there were any.
    """
    prepare(machine)
    torch.manual_seed(seed)  # of what the model draws: a projection
    encoder = model().train()  # transformers hands encoders over without dropout
    if training.steps == 0:
        save(encoder, folder)
        return {}
    if train is None or loss is None:
        raise UserError(
            f"there is {'no dataset.train' if train is None else 'no loss'} to learn from; name one, or take the model "
            f"as it comes with training=none"
        )
    from irexp.training.trainer import train_model  # Lightning takes seconds to import, and most jobs train nothing

    measures = train_model(
        encoder,
        loss,
        folder,
        documents=documents,
        train=train,
        dev=dev,
        training=training,
        optimizer=optimizer,
        schedule=schedule,
        machine=machine,
        seed=seed,
        logger=logger,
    )
    save(encoder.eval().cpu(), folder)
    shutil.rmtree(folder / ".training")
    return measures
