"""The stage that makes a checkpoint: fine-tuning, with validation by retrieval and the best weights kept.

A killed training resumes from `.training/last.ckpt` with the same optimizer, schedule, batches and random numbers. In
the end the folder holds the checkpoint, in the layout of its home library, and `history.csv`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch.optim import Optimizer

from irexp.artifact.hub import fetch_model
from irexp.config.schema import FalseNegatives, Machine, Negatives, Training
from irexp.dataset.collection import Documents, Examples, Topics
from irexp.dataset.draw import Draw, Sampler
from irexp.dataset.mining import read_mined
from irexp.dataset.negatives import RunNegatives
from irexp.dataset.scores import PairScores, ScoredExamples
from irexp.dataset.validation_set import ValidationSet
from irexp.evaluation.run_file import read_heads, read_run, run_file
from irexp.loss.learned import continue_from
from irexp.loss.loss import Loss
from irexp.model.adapter import write_recipe
from irexp.model.load import load, save
from irexp.model.lora import adapted, save_adapter
from irexp.model.model import Model
from irexp.model.start import start_from, start_new
from irexp.pipeline.fit import fine_tune
from irexp.pipeline.machine import check_precision, is_helper, prepare
from irexp.regularizer.regularizer import Regularizer
from irexp.study.trial import RunningTrial
from irexp.training.setup import TrainingSetup
from irexp.types import UserError

if TYPE_CHECKING:
    from peft import LoraConfig


def fit(
    folder: Path,
    negatives_run: Path | None = None,
    initial: Path | str | None = None,
    guide: Path | str | None = None,
    examples: Path | None = None,
    scores: Path | None = None,
    *,
    model: partial[Model],
    loss: Loss | None,
    regularizer: Regularizer | None,
    adapter: LoraConfig | None,
    negatives: Negatives,
    false_negatives: FalseNegatives,
    documents: Documents,
    train: Examples | None,
    dev: Topics | None,
    training: Training,
    optimizer: Callable[..., Optimizer],
    schedule: Callable[..., float],
    machine: Machine,
    seed: int,
    validation: Mapping[str, ValidationSet] | None = None,
    logger: Any = None,
    trial: RunningTrial | None = None,
    debug: Literal["overfit", "find_lr"] | None = None,
) -> dict[str, float]:
    """Fine-tune into `folder`, resuming a killed training.

    Further negatives come from a run or from mined examples, and targets from a teacher's scores, if they are given.

    A guide decides which documents of a batch may be relevant, see `irexp.training.false_negatives`.

    With `debug` the training is only tried, see `irexp.training.debug`, and nothing is written.

    Returns:
        The best validation measure, its step, and what it is compared with; empty without training.
    """
    if not isinstance(model, partial):
        raise UserError(f"stage={debug} tries a training, and this model has nothing to train; set another model=…")
    encoder = _start(model, initial, training, machine, seed)
    if training.steps == 0 and debug is None:
        if not is_helper(machine):
            save(encoder, folder)
        return {}
    learnt = _examples(train, negatives_run, negatives, mined=examples, scores=scores)
    if loss is None:
        raise UserError("there is no loss to minimise; set loss=…, or skip fine-tuning: training=none")
    if initial is not None:
        continue_from(loss, Path(initial) if Path(initial).is_dir() else fetch_model(str(initial)))
    setup = TrainingSetup(
        loss,
        learnt,
        documents,
        dev,
        training,
        machine,
        optimizer,
        schedule,
        seed,
        regularizer,
        _draw(negatives, has_run=negatives_run is not None or examples is not None),
        logger,
        trial,
        false_negatives,
        None if guide is None else load(guide),
        validation=validation or {},
    )
    if debug is not None:
        from irexp.training.debug import find_lr, overfit  # Lightning takes seconds to import

        with adapted(encoder, adapter):
            return overfit(encoder, setup) if debug == "overfit" else find_lr(encoder, setup)
    return fine_tune(
        encoder,
        setup,
        folder,
        adapter=adapter,
        configured=model if initial is None else None,
        write_adapter=partial(_save_adapter, model=model, initial=initial),
    )


def _start(model: partial[Model], initial: Path | str | None, training: Training, machine: Machine, seed: int) -> Model:
    """The model before its first step: the checkpoint `initial`, else the configured one on its backbone.

    Raises:
        UserError: if the machine does not train in the precision, or the model cannot be had.
    """
    device = prepare(machine)
    if training.steps != 0:
        check_precision(training.precision, device)
    torch.manual_seed(seed)  # of what the model draws: a projection
    encoder = start_new(model) if initial is None else start_from(str(initial), model)
    return encoder


def _save_adapter(encoder: Model, folder: Path, model: partial[Model], initial: Path | str | None) -> None:
    """Write the adapters, and the model that they belong to: a checkpoint, or a recipe over a backbone."""
    if initial is not None:
        is_folder = Path(initial).is_dir()
        save_adapter(encoder, folder, base=str(Path(initial).resolve()) if is_folder else str(initial))
        return
    query_backbone = model.keywords.get("query_backbone")
    save_adapter(
        encoder,
        folder,
        base=model.keywords["backbone"].location()[0],
        query_base=query_backbone and query_backbone.location()[0],
    )
    write_recipe(folder, model)


def _examples(
    train: Examples | None, negatives_run: Path | None, negatives: Negatives, *, mined: Path | None, scores: Path | None
) -> Examples:
    """The training examples, with further negatives if there are any, and with a teacher's scores."""
    if train is None:
        raise UserError(
            "there is no dataset.train to learn from; set dataset.train, or skip fine-tuning: training=none"
        )
    if mined is not None:
        train = read_mined(mined, train)
    if negatives_run is not None:
        if negatives.depth is None or negatives.depth < 1:
            raise UserError(
                f"negatives.depth={negatives.depth}: set the rank, at least 1, down to which negatives are drawn"
            )
        heads = read_heads(run_file(negatives_run), negatives.depth)
        train = RunNegatives(train, {query_id: doc_ids[negatives.skip or 0 :] for query_id, doc_ids in heads.items()})
    return train if scores is None else ScoredExamples(train, PairScores(read_run(run_file(scores))))


def _draw(negatives: Negatives, *, has_run: bool) -> Draw:
    """How negatives are drawn; the first ranks of a run are skipped when it is read."""
    skip = 0 if has_run else negatives.skip or 0
    return Draw(negatives.count, cast(Sampler, negatives.sampler or "random"), skip)
