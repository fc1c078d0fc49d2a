"""What each turn of a comparison does: a model, the texts or training batches, and how much that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from irexp.artifact.experiment import Experiment
from irexp.config.built import built
from irexp.model.bi_encoder import BiEncoder
from irexp.model.device import budget_of, device_of
from irexp.model.load import save
from irexp.model.model import Model
from irexp.model.start import start_new
from irexp.peer.data import operations, some_texts, texts_of_length, write_batches, write_texts
from irexp.peer.limits import Limits, measure_limits
from irexp.peer.lines import Load
from irexp.peer.rounds import Computing, Steps
from irexp.peer.training import Training
from irexp.peer.work import Work
from irexp.types import UserError

#: Tokens of a batch with which a processor's limits are measured; a GPU's are measured with its own budget.
_ROWS = 1024

#: The share of the steps in which the learning rate rises, as in conf/schedule/linear_warmup.yaml.
_WARM_UP = 0.1


def prepare(
    task: str, experiment: Experiment, folder: Path, *, texts: int, lengths: Sequence[int], steps: int
) -> Computing | Steps:
    """Write an experiment's untrained model, and what is encoded, scored or trained on.

    Args:
        task: encode, re_rank or fit.
        experiment: decides the model, the collection, and how it is trained.
        folder: a new folder for all of it.
        texts: how many texts or pairs.
        lengths: tokens per text, for the curve.
        steps: of a training.

    Raises:
        UserError: if the dataset has no training examples for the task fit, or the loss is not InfoNCE.
    """
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(experiment.values["seed"])
        model = start_new(built(experiment.config.model)).eval()
    save(model, folder / "model")
    if task == "fit":
        return _steps(experiment, model, folder, steps=steps)
    return _computing(task, experiment, model, folder, texts=texts, lengths=lengths)


def _limits(model: Model, device: torch.device) -> Callable[[], Limits]:
    rows = _ROWS if device.type == "cpu" else budget_of(device, model.width)
    return partial(measure_limits, rows, model.width, 4 * model.width, device)


def _computing(
    task: str, experiment: Experiment, model: Model, folder: Path, *, texts: int, lengths: Sequence[int]
) -> Computing:
    whole = some_texts(built(experiment.config.dataset.documents), texts)
    found = write_texts(folder / "texts.json", model, whole)
    curve = [write_texts(folder / f"{length}.json", model, texts_of_length(whole, found, length)) for length in lengths]
    device = device_of(experiment.values["machine"]["accelerator"])
    work = Work(
        task=task,
        model=model.name,
        folder=str(folder / "model"),
        path=str(found.path),
        query_length=model.query_length,
        document_length=model.document_length,
        threads=1,
        device=device.type,
        settings={},
    )
    load = Load(found.count, round(found.count * found.length), operations(model))
    return Computing(load, _limits(model, device), folder, work, tuple(curve))


def _steps(experiment: Experiment, model: Model, folder: Path, *, steps: int) -> Steps:
    values, dataset = experiment.values, experiment.config.dataset
    temperature, batch_size = values["loss"].get("temperature"), values["training"]["batch_size"]
    if dataset.train is None:
        raise UserError(
            "stage.peers.task=fit needs training examples, and dataset.train has none; choose another dataset"
        )
    if temperature is None:
        raise UserError("stage.peers.task=fit compares InfoNCE alone, and loss has no temperature; leave out loss=…")
    sizes = {"steps": steps, "batch_size": batch_size, "seed": values["seed"]}
    write_batches(folder / "data", built(dataset.train), built(dataset.documents), model, **sizes)
    device = device_of(experiment.values["machine"]["accelerator"])
    training = make_training(
        model.name,
        folder / "model",
        folder / "data",
        temperature=temperature,
        learning_rate=values["training"]["learning_rate"],
        lengths=(model.query_length, model.document_length),
        device=device.type,
        **sizes,
    )
    (folder / "trained").mkdir()
    load = Load(batch_size, tokens_of(model, training) // steps, operations(model))
    return Steps(load, _limits(model, device), folder / "trained", training)


def make_training(
    model: str,
    initial: Path,
    data: Path,
    *,
    temperature: float,
    learning_rate: float,
    lengths: tuple[int, int],
    steps: int,
    batch_size: int,
    seed: int,
    device: str = "cpu",
    penalty: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Training:
    """A training in all libraries, with irexp's schedule.

    Args:
        model: sbert, colbert or splade.
        initial: see `Training`.
        data: see `Training`.
        temperature: see `Training`.
        learning_rate: see `Training`.
        lengths: tokens kept per query and per document.
        steps: see `Training`.
        batch_size: see `Training`.
        seed: see `Training`.
        device: see `Training`.
        penalty: of SPLADE: the weight on queries, the weight on documents, and the ramp.
    """
    query_weight, document_weight, ramp = penalty
    return Training(
        model=model,
        initial=str(initial),
        data=str(data),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warm_up=max(1, round(_WARM_UP * steps)),
        temperature=temperature,
        query_weight=query_weight,
        document_weight=document_weight,
        ramp=ramp,
        query_length=lengths[0],
        document_length=lengths[1],
        seed=seed,
        threads=1,
        device=device,
        settings={},
    )


def tokens_of(model: Model, training: Training) -> int:
    """The tokens of all examples of a training, without padding."""
    assert isinstance(model, BiEncoder)
    pairs = training.pairs()
    queries = model.tokenize_queries([row["query"] for row in pairs])
    documents = model.tokenize_documents([row["document"] for row in pairs])
    return sum(map(len, [*queries, *documents]))
