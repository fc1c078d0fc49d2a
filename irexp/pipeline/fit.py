"""Fine-tune a model in place."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from irexp.config.schema import FalseNegatives, Machine, Training
from irexp.dataset.collection import Documents, Examples, Topics
from irexp.dataset.draw import Draw, Sampler
from irexp.dataset.in_memory import TextExamples
from irexp.dataset.negatives import RunNegatives
from irexp.dataset.scores import PairScores, ScoredExamples
from irexp.dataset.sources import DocumentSource, ExampleSource, TopicSource, open_documents, open_examples, open_topics
from irexp.dataset.text_examples import TextFileExamples
from irexp.dataset.validation_set import ValidationSet
from irexp.evaluation.run_file import run_heads
from irexp.loss.learned import save_learned
from irexp.loss.loss import Loss
from irexp.model.load import load, save
from irexp.model.lora import adapted
from irexp.model.model import Model
from irexp.model.trial import check_saving
from irexp.pipeline.component import component
from irexp.pipeline.machine import check_precision, is_helper, prepare
from irexp.pipeline.run_source import RunSource, lines_of_run
from irexp.pipeline.scratch import new_folder
from irexp.regularizer.regularizer import Regularizer
from irexp.training.setup import TrainingSetup
from irexp.types import UserError

if TYPE_CHECKING:
    from peft import LoraConfig

#: The settings that a resumed training must share with the killed one: a file among its working files.
_CALL = "call.json"

#: Documents, queries and judgements of which that file holds the first.
_LOOKED_AT = 1000


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
    validation: Mapping[str, tuple[TopicSource, DocumentSource]] | None = None,
    negatives: RunSource | None = None,
    negatives_per_query: int | None = None,
    sampler: Sampler = "random",
    skip: int = 0,
    false_negatives: Mapping[str, Any] | None = None,
    scores: RunSource | None = None,
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
        model: a model of any family; after an error it has the weights of the last step, with an adapter those that
            it had before.
        loss: such as `component("loss", "info_nce")`.
        examples: what `open_examples` opens: topics, whose relevant documents are the positives, a folder in BEIR's
            layout, an id of ir_datasets; or texts, `(query, positive, negative, …)`.
        documents: the collection whose ids the examples and `dev` use; None if the examples are texts.
        steps: optimizer steps.
        learning_rate: its peak; 2e-5 is usual for a BERT-base.
        batch_size: queries per optimizer step; None for the value of conf/training.
        dev: queries to validate on by retrieval, as `open_topics` opens them (a folder's split "dev"); None for no
            validation.
        validation: further queries to validate on, each with its collection, by name; the mean over all sets selects
            the weights.
        negatives: a run over the training queries, from which further negatives are drawn.
        scores: a teacher's scores of the examples' documents, which become the targets, as `score` returns them.
        negatives_per_query: negatives drawn per example at each step; None for all.
        sampler: how they are drawn, see `irexp.dataset.draw.Draw`.
        skip: the first ranks of the run, or of the examples' own negatives without a run, that are never drawn.
        false_negatives: settings of conf/false_negatives, such as `{"same_text": True, "guide": "folder or hub name"}`:
            documents that are left out as negatives.
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
        The best validation measure, its step, and what it is compared with, see `irexp.training.verdict.verdict`;
        without validation the number of steps.

    Raises:
        UserError: before the first step, if model, loss, examples and settings are incompatible.
    """
    machine = machine or component("machine")
    _check_parts(model, loss)
    opened, collection = _data(examples, documents, negatives, skip, is_searched=dev is not None)
    left_out: FalseNegatives = component("false_negatives", **(false_negatives or {}))
    if scores is not None:
        opened = ScoredExamples(opened, PairScores(lines_of_run(scores)))
    setup = TrainingSetup(
        loss,
        opened,
        collection,
        None if dev is None else open_topics(dev, split="dev"),
        _settings(steps, learning_rate, batch_size, training, validates=dev is not None or bool(validation)),
        machine,
        optimizer or component("optimizer"),
        schedule or component("schedule"),
        seed,
        regularizer,
        _draw(loss, negatives_per_query, sampler, skip if negatives is None else 0),
        logger,
        false_negatives=left_out,
        guide=None if left_out.guide is None else load(left_out.guide),
        validation=_opened(validation or {}),
    )
    check_precision(setup.training.precision, prepare(machine))
    with _place(folder, model, setup, adapter) as place, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of an adapter's first weights
        measures = fine_tune(model, setup, place, adapter=adapter, is_saved=folder is not None)
        shutil.rmtree(place / ".training")
    return measures


def fine_tune(
    model: Model,
    setup: TrainingSetup,
    folder: Path,
    *,
    adapter: LoraConfig | None = None,
    is_saved: bool = True,
    configured: partial[Model] | None = None,
    write_adapter: Callable[[Model, Path], None] | None = None,
) -> dict[str, float]:
    """Train a model in place, and save it; `.training` in the folder holds what a killed training resumes from.

    Args:
        model: as it will be trained, without adapters.
        setup: the training.
        folder: of the checkpoint.
        adapter: adapters to train, which are merged into the weights in the end, and removed after an error.
        is_saved: whether to save the model; it is tried before the first step whether that can be done.
        configured: what made the model, if that is known.
        write_adapter: called with the model and a folder before the adapters are merged.

    Returns:
        The best validation measure and its step, without validation the number of steps; nothing on a further node.
    """
    from irexp.training.trainer import is_resuming, train_model  # Lightning takes seconds to import

    is_first_node = not is_helper(setup.machine)
    if is_saved and is_first_node and not is_resuming(folder):
        check_saving(model, configured, folder)
    with adapted(model, adapter):
        measures = train_model(model.train(), setup, folder)
        if not is_first_node:
            return {}
        if adapter is not None and write_adapter is not None:
            write_adapter(model.eval().cpu(), folder / "adapter")
    model.eval().cpu()
    if is_saved:
        save(model, folder)
        save_learned(setup.loss, folder)
    return measures


def _check_parts(model: object, loss: object) -> None:
    """Refuse what is not a model of irexp, or not a loss."""
    if not isinstance(model, Model):
        raise UserError(f"model is a {type(model).__name__}: pass what load(…) or new_model(…) returns")
    if not isinstance(loss, Loss):
        raise UserError(
            f'loss is a {type(loss).__name__}: pass component("loss", "info_nce"), or an object of a class of your '
            f"own below irexp.loss.loss.Loss"
        )


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


def _opened(validation: Mapping[str, tuple[TopicSource, DocumentSource]]) -> dict[str, ValidationSet]:
    return {
        str(name): ValidationSet(open_topics(topics, split="dev"), documents=open_documents(documents))
        for name, (topics, documents) in validation.items()
    }


def _data(
    examples: ExampleSource,
    documents: DocumentSource | None,
    negatives: RunSource | None,
    skip: int,
    *,
    is_searched: bool,
) -> tuple[Examples, Documents]:
    """The examples, and the collection that holds their documents and those of the validation."""
    opened = open_examples(examples)
    collection = None if documents is None else open_documents(documents)
    if isinstance(opened, TextExamples | TextFileExamples) and collection is None:
        if is_searched:
            raise UserError("dev needs documents to search in; pass documents=…")
        collection = opened.documents
    if collection is None:
        raise UserError("the examples name documents by id; pass documents=… with their texts")
    if negatives is not None:
        heads = run_heads(lines_of_run(negatives))
        opened = RunNegatives(opened, {query_id: doc_ids[skip:] for query_id, doc_ids in heads.items()})
    return opened, collection


def _draw(loss: Loss, count: int | None, sampler: Sampler, skip: int) -> Draw:
    """How negatives are drawn; without any, only in-batch negatives can teach."""
    fewest = 0 if loss.in_batch else 1
    if count is not None and count < fewest:
        raise UserError(f"negatives_per_query={count}: {type(loss).__name__} needs at least {fewest}; None draws all")
    return Draw(count, sampler, skip)


@contextmanager
def _place(folder: str | Path | None, model: Model, setup: TrainingSetup, adapter: LoraConfig | None) -> Iterator[Path]:
    """A new folder, or the folder in which the same call was killed; for None a temporary one.

    Raises:
        UserError: if the folder holds anything else.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="irexp-") as place:
            yield Path(place)
        return
    call, known = _described(model, setup, adapter), Path(folder).expanduser() / ".training" / _CALL
    if known.is_file():
        if known.read_text(encoding="utf8") != call:
            raise UserError(
                f"{folder} holds an unfinished training with other settings; name another folder, or remove it"
            )
        yield known.parents[1]
        return
    with new_folder(folder) as place:
        known.parent.mkdir()
        known.write_text(call, encoding="utf8")
        yield place


def _described(model: Model, setup: TrainingSetup, adapter: LoraConfig | None) -> str:
    """What a resumed training has in common with the killed one; not its weights, which the killed one has changed."""
    transformers = {key: encoder.config.to_dict() for key, (encoder, _) in model.encoders().items()}
    for config in transformers.values():
        config.pop("architectures", None)  # saving a model changes it
    parts = {
        "model": [model.family(), model.known_settings(), transformers, model.query_length, model.document_length],
        "loss": _plain(setup.loss),
        "regularizer": _plain(setup.regularizer),
        "adapter": None if adapter is None else dataclasses.asdict(adapter),
        "optimizer": _call_of(setup.optimizer),
        "schedule": _call_of(setup.schedule),
        "examples": [len(setup.examples), *(setup.examples[position] for position in _spread(len(setup.examples)))],
        "documents": list(islice(iter(setup.documents), _LOOKED_AT)),
        "validation": {name: _asked(topics) for name, topics in _topics_of(setup).items()},
        "negatives": dataclasses.asdict(setup.negatives),
        "false_negatives": dataclasses.asdict(setup.false_negatives),
        "training": dataclasses.asdict(setup.training),
        "seed": setup.seed,
    }
    return json.dumps(parts, default=sorted, sort_keys=True)


def _spread(count: int) -> list[int]:
    """Some positions among `count`, the first and the last included."""
    return sorted({round(place * (count - 1) / 100) for place in range(101)})


def _call_of(function: Any) -> list[Any]:
    """The name of a function and the values, no functions, that a `partial` gives it."""
    inner = getattr(function, "func", function)
    given = {key: value for key, value in getattr(function, "keywords", {}).items() if not callable(value)}
    return [getattr(inner, "__qualname__", type(inner).__qualname__), given]


def _topics_of(setup: TrainingSetup) -> dict[str, Topics]:
    """The queries of each validation by name."""
    own = {} if setup.dev is None else {"dev": setup.dev}
    return own | {name: each.topics for name, each in setup.validation.items()}


def _asked(topics: Topics) -> list[Any]:
    """The first queries and judgements."""
    return [*islice(topics.queries(), _LOOKED_AT), *islice(topics.qrels(), _LOOKED_AT)]


def _plain(component: object | None) -> dict[str, Any] | None:
    """The class of a component and its settings that are plain values."""
    if component is None:
        return None
    values = {key: value for key, value in vars(component).items() if isinstance(value, str | int | float | dict)}
    plain = {key: value for key, value in values.items() if not key.startswith("_")}  # the rest is torch's
    inner = dict(component.named_children()) if isinstance(component, nn.Module) else {}
    return {"class": type(component).__qualname__, **plain, **{name: _plain(part) for name, part in inner.items()}}
