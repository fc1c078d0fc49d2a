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

#: What a resumed training must have in common with the killed one, in the folder of its working files.
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
    """Fine-tune a model; it has the best weights afterwards, or without validations the last ones.

    Args:
        model: of any family; changed in place.
        loss: such as `component("loss", "info_nce")`.
        examples: what `open_examples` opens: topics, whose relevant documents are the positives, a folder in BEIR's
            layout, an id of ir_datasets; or texts, `(query, positive, negative, …)`.
        documents: the collection that the examples and `dev` name documents of; None for examples that are texts.
        steps: optimizer steps.
        learning_rate: at its highest; 2e-5 is usual for a BERT-base.
        batch_size: queries of an optimizer step; None for what conf/training has.
        dev: the queries of the validation by retrieval, as `open_topics` opens them (of a folder the split "dev"); None
            for no validation.
        negatives: a run over the training queries, of which further negatives are drawn.
        negatives_per_query: how many negatives of an example are drawn at each step; None for all.
        regularizer: of the embeddings, such as `component("regularizer", "flops")`.
        adapter: such as `component("adapter", "lora")`; merged into the weights afterwards.
        optimizer: from parameters to an optimizer; None for `component("optimizer")`.
        schedule: from the step to a factor of the learning rate; None for `component("schedule")`.
        training: further settings of conf/training, such as `{"precision": "bf16-mixed", "validate_every": 500}`.
        folder: where the checkpoint is saved, a new one; the same call resumes a training that was killed. None for
            nowhere.
        machine: where it runs; None for `component("machine")`.
        logger: of Lightning.
        seed: of batches and dropout.

    Returns:
        The best validation and the step it was reached at; without validations the steps.

    Raises:
        UserError: if model, loss, examples and settings do not go together, before the first step.
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
    """The record of a training; without a validation it has no interval between two."""
    given: dict[str, Any] = {"steps": steps, "learning_rate": learning_rate}
    if batch_size is not None:
        given["batch_size"] = batch_size
    if not validates:
        given["validate_every"] = None
    found: Training = component("training", **{**given, **(further or {})})
    return found


def _collection(examples: Examples, documents: DocumentSource | None, *, is_searched: bool) -> Documents:
    """Where the documents of examples and of the validation are looked up."""
    collection = None if documents is None else open_documents(documents)
    if isinstance(examples, TextExamples):
        if collection is None and is_searched:
            raise UserError("dev needs documents to be searched in; name them")
        return examples.documents if collection is None else Joined(collection, examples.documents)
    if collection is None:
        raise UserError("the examples name documents by their ids; documents=… says where their texts are")
    return collection


def _begin(folder: str | Path | None, call: dict[str, Any]) -> Path:
    """A new folder, or that of a training which was killed in the same call.

    Raises:
        UserError: if it holds something else.
    """
    text = json.dumps(call, default=str, sort_keys=True)
    place = Path(folder).expanduser() if folder is not None else None
    if place is not None and (known := place / ".training" / _CALL).is_file():
        if known.read_text(encoding="utf8") != text:
            raise UserError(
                f"{place} holds a training of other settings that was stopped; name another folder, or remove it"
            )
        return place
    place = new_folder(folder)
    (place / ".training").mkdir()
    (place / ".training" / _CALL).write_text(text, encoding="utf8")
    return place
