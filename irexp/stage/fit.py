"""The stage that makes a checkpoint: fine-tuning, with validation by retrieval and the best weights kept.

A killed training resumes from `.training/last.ckpt` with the same optimizer, schedule, batches and random numbers. In
the end the folder holds the checkpoint, in the layout of its home library, and `history.csv`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from irexp.config.schema import Machine, Negatives, Training
from irexp.dataset.collection import Documents, Examples, Topics
from irexp.dataset.negatives import RunNegatives
from irexp.evaluation.run_file import read_heads, run_file
from irexp.loss.loss import Loss
from irexp.model.adapter import write_recipe
from irexp.model.load import save
from irexp.model.lora import add_lora, merge, save_adapter
from irexp.model.model import Model
from irexp.model.trial import check_saving
from irexp.pipeline.machine import is_helper, prepare
from irexp.regularizer.regularizer import Regularizer
from irexp.types import UserError

if TYPE_CHECKING:
    from peft import LoraConfig


def fit(
    folder: Path,
    negatives_run: Path | None = None,
    *,
    model: partial[Model],
    loss: Loss | None,
    regularizer: Regularizer | None,
    adapter: LoraConfig | None,
    negatives: Negatives,
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
    """Fine-tune into `folder`, resuming a killed training; further negatives come from a run, if one is given.

    Returns:
        The best validation measure and its step; empty without training.
    """
    prepare(machine)
    torch.manual_seed(seed)  # for weights that the model draws, such as a projection
    encoder = model().train()  # transformers hands encoders over without dropout
    if training.steps == 0:
        if not is_helper(machine):
            save(encoder, folder)
        return {}
    examples = _examples(train, negatives_run, negatives)
    if loss is None:
        raise UserError("there is no loss to minimise; set loss=…, or skip fine-tuning: training=none")
    from irexp.training.trainer import is_resuming, train_model  # Lightning takes seconds; most jobs train nothing

    if not is_helper(machine) and not is_resuming(folder):
        check_saving(encoder, model, folder)
    if adapter is not None:
        add_lora(encoder, adapter)
    measures = train_model(
        encoder,
        loss,
        folder,
        regularizer=regularizer,
        negatives=negatives.count,
        documents=documents,
        train=examples,
        dev=dev,
        training=training,
        optimizer=optimizer,
        schedule=schedule,
        machine=machine,
        seed=seed,
        logger=logger,
    )
    if is_helper(machine):
        return {}
    _keep(encoder.eval().cpu(), folder, model if adapter is not None else None)
    return measures


def _keep(encoder: Model, folder: Path, adapted: partial[Model] | None) -> None:
    """Save the trained model, and its adapter on its own if it has one.

    What a killed process resumes from stays until the store has the manifest.
    """
    if adapted is not None:
        _save_adapter(encoder, folder / "adapter", adapted)
        merge(encoder)
    save(encoder, folder)


def _save_adapter(encoder: Model, folder: Path, model: partial[Model]) -> None:
    """Save an adapter, with the name of the backbone that it adapts."""
    query_backbone = model.keywords.get("query_backbone")
    save_adapter(
        encoder,
        folder,
        base=model.keywords["backbone"].location()[0],
        query_base=query_backbone and query_backbone.location()[0],
    )
    write_recipe(folder, model)


def _examples(train: Examples | None, negatives_run: Path | None, negatives: Negatives) -> Examples:
    """The training examples, with negatives from a run if there is one."""
    if train is None:
        raise UserError(
            "there is no dataset.train to learn from; set dataset.train, or skip fine-tuning: training=none"
        )
    if negatives_run is None:
        return train
    if negatives.depth is None or negatives.depth < 1:
        raise UserError(
            f"negatives.depth={negatives.depth}: set the rank, at least 1, down to which negatives are drawn"
        )
    return RunNegatives(train, read_heads(run_file(negatives_run), negatives.depth))
