"""Training with Lightning's trainer: it resumes after a kill, and keeps the best weights."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar

from irexp.config.schema import Machine, Training
from irexp.dataset.scores import ScoredExamples
from irexp.model.device import device_of
from irexp.model.model import Model
from irexp.progress import is_terminal
from irexp.training.activations import checkpointed
from irexp.training.callbacks import Best, History, ProgressLines, Resumable, validations
from irexp.training.datamodule import RetrievalData
from irexp.training.diverged import check_weights
from irexp.training.false_negatives import check_guide
from irexp.training.module import RetrievalModule
from irexp.training.optimizer import frozen, warn_of_learning_rate
from irexp.training.processes import own_errors
from irexp.training.pruning import Pruning
from irexp.training.quantization import check_quantization, quantised
from irexp.training.settings import check_settings
from irexp.training.setup import TrainingSetup
from irexp.training.sharding import gathers_weights
from irexp.training.signals import keyboard_interrupts, stopped_by_sigterm
from irexp.training.strategy import Nodes, strategy_of
from irexp.training.targets import check_targets
from irexp.training.tracking import relayed
from irexp.training.traps import warn_of_traps
from irexp.training.validation_sample import measures_of
from irexp.training.validation_sets import make_validations
from irexp.training.verdict import PerQuery, verdict
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Optimizer steps between two losses in the history and the tracker.
_LOG_EVERY = 10


def train_model(model: Model, setup: TrainingSetup, folder: Path) -> dict[str, float]:
    """Train a model in place; a killed training resumes from `folder/.training`.

    Returns:
        The best validation and its step, and what `verdict` compares it with; without validation the number of steps.

    Raises:
        UserError: if loss, regularizer or batch size do not fit the model or machine, examples or validation queries
            are missing, or the training diverges.
    """
    check_setup(model, setup)
    with as_trained(model, setup):
        validation = make_validations(model, setup)
        data = RetrievalData.of(model, setup, validation)
        warn_of_traps(setup, data, validation)
        module = RetrievalModule.of(model, setup, steps=data.steps, validation=validation)
        module.configure_optimizers()  # a wrong setting is an error before the first validation
        return _train(module, data, folder, setup)


@contextmanager
def as_trained(model: Model, setup: TrainingSetup) -> Iterator[None]:
    """In the block, some layers of a model are frozen, quantised or checkpointed, as its training asks for it."""
    training, machine = setup.training, setup.machine
    with (
        frozen(model, training.frozen_layers),
        quantised(model, training, device_of(machine.accelerator)),
        checkpointed(model, machine.gradient_checkpointing),
    ):
        yield


def check_setup(model: Model, setup: TrainingSetup) -> None:
    """Check that a training's parts go together.

    Raises:
        UserError: if loss, regularizer, targets, precision or strategy do not fit the model or the machine.
    """
    check_settings(
        type(model),
        setup.loss,
        regularizer=setup.regularizer,
        false_negatives=setup.false_negatives,
        training=setup.training,
        machine=setup.machine,
        optimizer=setup.optimizer,
        is_taught=isinstance(setup.examples, ScoredExamples),
    )
    _check_dtypes(model)
    check_targets(model, setup.loss, setup.examples)
    check_quantization(model, setup.training, devices=setup.machine.devices * setup.machine.num_nodes)
    check_guide(setup.guide, setup.false_negatives)
    warn_of_learning_rate(model, setup.training)


def _check_dtypes(model: Model) -> None:
    """Refuse trainable weights that are not fp32; frozen ones may be."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            dtype = str(parameter.dtype).removeprefix("torch.")
            raise UserError(
                f"backbone.dtype={dtype}: {name} would be trained in this precision, which rounds most updates to "
                f"zero; use backbone.dtype=float32, or adapter=lora with a model that trains only adapters"
            )


def is_resuming(folder: Path) -> bool:
    """Whether the folder holds a killed training, which will be resumed."""
    return (folder / ".training" / "last.ckpt").is_file()


def _train(module: RetrievalModule, data: RetrievalData, folder: Path, setup: TrainingSetup) -> dict[str, float]:
    """Run Lightning's trainer and leave the best weights in the module."""
    training, machine, logger = setup.training, setup.machine, setup.logger
    working = folder / ".training"
    working.mkdir(exist_ok=True)
    last = working / "last.ckpt"
    if not last.is_file():
        (folder / "history.csv").unlink(missing_ok=True)  # of a training that was killed before its first checkpoint
    measure = f"validation/{measures_of(training)[0]}"
    best = Best(
        working,
        filename="best",
        monitor=measure,
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [
        History(folder / "history.csv", every=_LOG_EVERY),
        Resumable(last, every=machine.resume_every),
    ]
    if training.validate_every:
        callbacks += [best, PerQuery(working)]
        if training.patience is not None:
            callbacks.append(EarlyStopping(measure, patience=training.patience, mode="max"))
        if setup.trial is not None:
            callbacks.append(Pruning(setup.trial, measure))
    if machine.progress:
        callbacks.append(TQDMProgressBar(refresh_rate=_LOG_EVERY) if is_terminal() else ProgressLines())
    with running_trainer(
        data.steps, callbacks, training=training, machine=machine, logger=logger, folder=working
    ) as trainer:
        if module.validation and not last.is_file():  # the untrained model is step 0 of the history
            trainer.validate(module, data, verbose=False, weights_only=True)
        if last.is_file():
            log.info("resuming the training in %s", working)
        trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
        if training.validate_every:
            found = _keep_best(trainer, module, data, best, folder / "history.csv")
            check_weights(module)
            return found | verdict(folder, measure, int(found["steps"]))
    check_weights(module)
    return {"steps": float(data.steps)}


@contextmanager
def running_trainer(
    steps: int,
    callbacks: list[Callback],
    *,
    training: Training,
    machine: Machine,
    logger: Any,
    folder: Path | None = None,
) -> Iterator[Trainer]:
    """Lightning's trainer, in whose block its errors are the user's and its expected warnings are silent.

    Child processes return their weights in a file in `folder`; None for the folder of temporary files.
    """
    is_alone = machine.devices * machine.num_nodes == 1
    with (
        warnings.catch_warnings(),
        stopped_by_sigterm(),
        keyboard_interrupts(),
        _explain_out_of_memory(),
        own_errors(),
        nullcontext(logger) if is_alone or logger is None else relayed(logger) as tracker,
    ):
        _silence_expected_warnings()
        yield _trainer(steps, callbacks, training=training, machine=machine, logger=tracker, folder=folder)


@contextmanager
def _explain_out_of_memory() -> Iterator[None]:
    """Turn a GPU's out-of-memory error into a message that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU's memory is too small for a training step ({str(error).partition('. ')[0]}); set "
            f"training.chunk_size, which keeps the batch, or machine.gradient_checkpointing=true, lower "
            f"dataset.document_length or (in validation) machine.token_budget, or use training.precision=bf16-mixed"
        ) from error


def _keep_best(
    trainer: Trainer, module: RetrievalModule, data: RetrievalData, best: ModelCheckpoint, history: Path
) -> dict[str, float]:
    """Load the best weights, after a final validation if the last step was not validated."""
    assert best.monitor is not None
    validated = validations(history, best.monitor)
    unvalidated = data.steps % data.validate_every
    # a trainer whose processes have ended does not know its last step
    last = trainer.global_step if trainer.world_size == 1 else max(validated, default=0) + unvalidated
    if stopped_early := last < data.steps:
        log.info("the training ended at step %d: no better validation followed (training.patience)", last)
    if unvalidated and not stopped_early:
        if trainer.world_size > 1 and validated:
            log.warning(
                "the last %d steps are not validated; make training.steps a multiple of training.validate_every",
                unvalidated,
            )
        else:
            value = trainer.validate(module, data, verbose=False, weights_only=True)[0][best.monitor]
            value = float(f"{value:.6g}")  # as the history's, so that an equal one is not better
            if value > max(validated.values(), default=-math.inf):
                return {best.monitor: value, "steps": float(data.steps)}
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"], strict=module.strict_loading)
    return {best.monitor: validated[state["global_step"]], "steps": float(state["global_step"])}


def _trainer(
    steps: int, callbacks: list[Callback], *, training: Training, machine: Machine, logger: Any, folder: Path | None
) -> Trainer:
    for name in ("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero", "pytorch.accelerators.cuda"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)  # hides its banners
    every, strategy = training.validate_every, strategy_of(machine)
    return Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        strategy=strategy,
        plugins=[Nodes(machine.num_nodes)],
        precision=training.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        max_steps=steps,
        accumulate_grad_batches=training.accumulate_batches,
        gradient_clip_val=training.clip_norm,
        val_check_interval=every * training.accumulate_batches if every else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if every else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=_LOG_EVERY,
        logger=logger or False,
        callbacks=callbacks,
        enable_checkpointing=bool(every),
        enable_model_summary=False,
        enable_progress_bar=machine.progress and is_terminal(),
        use_distributed_sampler=False,  # each batch already is this process's share
        inference_mode=not gathers_weights(strategy),  # which are trained on after a validation
        default_root_dir=folder,
    )


def _silence_expected_warnings() -> None:
    """Ignore Lightning's warnings about deliberate choices."""
    for message in (
        ".*does not have many workers.*",  # tokenizing takes 1 % of a step
        ".*dataloader is not resumable.*",  # a resumed one starts at the next batch
        ".*Checkpoint directory .* exists and is not empty.*",  # the resumed training's
        ".*is not configured so.*checkpoint.*",
        ".*You defined a `validation_step` but have no `val_dataloader`.*",  # nor has irexp.training.debug
        ".*GPU available but not used.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*Detected call of `lr_scheduler.step\\(\\)` before.*",  # fp16 skips steps whose gradients overflow
    ):
        warnings.filterwarnings("ignore", message)
