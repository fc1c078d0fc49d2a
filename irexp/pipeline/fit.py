"""Fine-tune a model in place."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from irexp.config.schema import Machine, Training
from irexp.dataset.collection import Documents, Examples
from irexp.dataset.in_memory import Joined, TextExamples
from irexp.dataset.negatives import RunNegatives
from irexp.dataset.sources import DocumentSource, ExampleSource, TopicSource, open_documents, open_examples, open_topics
from irexp.evaluation.run_file import run_heads
from irexp.loss.loss import Loss
from irexp.model.load import save
from irexp.model.lora import add_lora, merge
from irexp.model.model import Model
from irexp.model.trial import check_saving
from irexp.pipeline.component import component
from irexp.pipeline.machine import check_precision, prepare
from irexp.pipeline.re_rank import RunSource, lines_of_run
from irexp.pipeline.scratch import new_folder
from irexp.regularizer.regularizer import Regularizer
from irexp.types import UserError

if TYPE_CHECKING:
    from peft import LoraConfig

#: The settings that a resumed training must share with the killed one: a file among its working files.
_CALL = "call.json"


def fit(
    model: Model,
    loss: Loss,
    examples: ExampleSource,
    documents: DocumentSource | None = None,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int | None = None,
    dev: TopicSource | None = None,
    negatives: RunSource | None = None,
    negatives_per_query: int | None = None,
    regularizer: Regularizer | None = None,
    adapter: LoraConfig | None = None,
    optimizer: Callable[..., Optimizer] | None = None,
    schedule: Callable[..., float] | None = None,
    training: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    machine: Machine | None = None,
    logger: Any = None,
    seed: int = 42,
) -> dict[str, float]:
    """Fine-tune a model in place; it ends with the best weights, or without validation with the last ones.

    Args:
        model: a model of any family.
        loss: such as `component("loss", "info_nce")`.
        examples: what `open_examples` opens: topics, whose relevant documents are the positives, a folder in BEIR's
            layout, an id of ir_datasets; or texts, `(query, positive, negative, …)`.
        documents: the collection whose ids the examples and `dev` use; None if the examples are texts.
        steps: optimizer steps.
        learning_rate: its peak; 2e-5 is usual for a BERT-base.
        batch_size: queries per optimizer step; None for the value of conf/training.
        dev: queries to validate on by retrieval, as `open_topics` opens them (a folder's split "dev"); None for no
            validation.
        negatives: a run over the training queries, from which further negatives are drawn.
        negatives_per_query: negatives drawn per example at each step; None for all.
        regularizer: a regularizer of the embeddings, such as `component("regularizer", "flops")`.
        adapter: such as `component("adapter", "lora")`; merged into the weights after training.
        optimizer: a function from parameters to an optimizer; None for `component("optimizer")`.
        schedule: a function from the step to a factor of the learning rate; None for `component("schedule")`.
        training: further settings of conf/training, such as `{"precision": "bf16-mixed", "validate_every": 500}`.
        folder: a new folder to save the checkpoint in, where the same call resumes a killed training; None to save
            nothing.
        machine: where it runs; None for `component("machine")`.
        logger: a Lightning logger.
        seed: decides batches and dropout.

    Returns:
        The best validation measure and its step; without validation the number of steps.

    Raises:
        UserError: before the first step, if model, loss, examples and settings are incompatible.
    """
    from irexp.training.trainer import train_model  # Lightning takes seconds to import

    machine = machine or component("machine")
    settings = _settings(steps, learning_rate, batch_size, training, validates=dev is not None)
    opened = open_examples(examples)
    collection = _collection(opened, documents, is_searched=dev is not None)
    if negatives is not None:
        opened = RunNegatives(opened, run_heads(lines_of_run(negatives)))
    check_precision(settings.precision, prepare(machine))
    call = {"model": type(model).__name__, "loss": [type(loss).__name__, vars(loss)], "examples": len(opened)}
    place = _begin(folder, {**call, "training": dataclasses.asdict(settings), "seed": seed})
    if folder is not None:
        check_saving(model, None, place)
    if adapter is not None:
        add_lora(model, adapter)
    measures = train_model(
        model.train(),
        loss,
        place,
        regularizer=regularizer,
        negatives=negatives_per_query,
        documents=collection,
        train=opened,
        dev=None if dev is None else open_topics(dev, split="dev"),
        training=settings,
        optimizer=optimizer or component("optimizer"),
        schedule=schedule or component("schedule"),
        machine=machine,
        seed=seed,
        logger=logger,
    )
    if adapter is not None:
        merge(model)
    model.eval().cpu()
    if folder is not None:
        save(model, place)
    shutil.rmtree(place / ".training" if folder is not None else place)
    return measures


def _settings(
    steps: int, learning_rate: float, batch_size: int | None, further: Mapping[str, Any] | None, *, validates: bool
) -> Training:
    """The training settings; without validation, `validate_every` is None."""
    given: dict[str, Any] = {"steps": steps, "learning_rate": learning_rate}
    if batch_size is not None:
        given["batch_size"] = batch_size
    if not validates:
        given["validate_every"] = None
    found: Training = component("training", **{**given, **(further or {})})
    return found


def _collection(examples: Examples, documents: DocumentSource | None, *, is_searched: bool) -> Documents:
    """The collection that holds the documents of the examples and of the validation."""
    collection = None if documents is None else open_documents(documents)
    if isinstance(examples, TextExamples):
        if collection is None and is_searched:
            raise UserError("dev needs documents to search in; pass documents=…")
        return examples.documents if collection is None else Joined(collection, examples.documents)
    if collection is None:
        raise UserError("the examples name documents by id; pass documents=… with their texts")
    return collection


def _begin(folder: str | Path | None, call: dict[str, Any]) -> Path:
    """A new folder, or the folder in which the same call was killed.

    Raises:
        UserError: if the folder holds anything else.
    """
    text = json.dumps(call, default=str, sort_keys=True)
    place = Path(folder).expanduser() if folder is not None else None
    if place is not None and (known := place / ".training" / _CALL).is_file():
        if known.read_text(encoding="utf8") != text:
            raise UserError(
                f"{place} holds an unfinished training with other settings; name another folder, or remove it"
            )
        return place
    place = new_folder(folder)
    (place / ".training").mkdir()
    (place / ".training" / _CALL).write_text(text, encoding="utf8")
    return place
