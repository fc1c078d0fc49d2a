"""Training in irexp beside sentence-transformers, PyLate and Lightning IR: `python -m tests.benchmark.fit_peers`.

Each library trains the same untrained model on the same batches of the embedded collection, with the same lengths,
steps, learning rates, loss and optimizer, in its own environment (`irexp.peer`); the libraries take turns, and each
round has another seed. irexp then opens every checkpoint and evaluates it on the test queries. The processor seconds
of a step are those of one thread: tokenizing, forward, backward, optimizer. experiments/speed/README.md says how to
make the environments.

    python -m tests.benchmark.fit_peers --sentence-transformers st/bin/python --lightning-ir lir/bin/python \
        --pylate pylate/bin/python --variants --output experiments/speed

`--output FOLDER` writes fit_peers.json after each training, and the table in the folder's README.md, between two
comments. The same command continues where it was stopped; further models, seeds and libraries are added to the file.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from irexp import build_index, component, encode, evaluate, load, new_model, save, search
from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.dataset.examples import QrelExamples
from irexp.peer.data import write_batches
from irexp.peer.prepare import make_training
from irexp.peer.training import Training
from irexp.peer.workers import LIBRARIES, check_pythons, worker
from tests.benchmark.fit_lines import Line, read, write

log = logging.getLogger(__name__)

#: The largest difference between the libraries' losses of the probe, relative to irexp's.
TOLERANCE = 1e-3

_MEASURE = "nDCG@10"
_MODELS = ("sbert", "colbert", "splade")
#: As conf/dataset/aws_howto.yaml.
_QUERY_LENGTH, _DOCUMENT_LENGTH = 24, 80

#: Settings of irexp that are measured beside its default.
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "irexp, machine.forward_tokens=1024": {"machine": {"forward_tokens": 1024}},
    "irexp, training.length_buckets=50": {"training": {"length_buckets": 50}},
    "irexp, machine.compile=true": {"machine": {"compile": True}},
}


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        model: sbert, colbert or splade.
        name: the library, and what differs from its default.
        library: irexp, or a key of `irexp.peer.workers.LIBRARIES`.
        python: the interpreter of its environment; None for this one.
        settings: of irexp: what differs from its defaults, by group.
    """

    model: str
    name: str
    library: str
    python: str | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def contenders(models: Sequence[str], pythons: Mapping[str, str], *, variants: bool) -> list[Contender]:
    """The rows: irexp, the libraries that have an environment and the model, and other settings of irexp."""
    found = []
    for model in models:
        found.append(Contender(model, "irexp", "irexp"))
        for key, library in LIBRARIES.items():
            if model in library.models["fit"] and (python := pythons.get(key)):
                found.append(Contender(model, library.name, key, python))
        for name, settings in _VARIANTS.items() if variants else ():
            found.append(Contender(model, name, "irexp", settings=settings))
    return found


def training_of(contender: Contender, initial: Path, data: Path, *, steps: int, batch_size: int, seed: int) -> Training:
    """The training of a contender, with the learning rate, loss and penalty of irexp's options."""
    is_sparse = contender.model == "splade"
    penalty = component("regularizer", "flops")
    training = make_training(
        contender.model,
        initial,
        data,
        temperature=component("loss", "info_nce" if contender.model == "sbert" else "info_nce_dot").temperature,
        learning_rate=2e-4 if is_sparse else component("training").learning_rate,  # as conf/model/splade.yaml
        lengths=(_QUERY_LENGTH, _DOCUMENT_LENGTH),
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        penalty=(penalty.query_weight, penalty.document_weight, penalty.ramp) if is_sparse else (0.0, 0.0, 0.0),
    )
    return replace(training, settings=contender.settings)


def train(contender: Contender, training: Training, folder: Path) -> dict[str, Any]:
    """Run a training in its library's environment, on one thread, and return what it measured."""
    folder.mkdir(parents=True)
    with worker(contender.library, contender.python) as started:
        found = started.ask({"task": "fit", "training": asdict(training), "folder": str(folder / "model")})
        return {**found, "versions": started.versions}


def values_of(checkpoint: Path) -> dict[str, float]:
    """nDCG@10 per test query, with exact search."""
    model = load(checkpoint, query_length=_QUERY_LENGTH, document_length=_DOCUMENT_LENGTH)
    machine = component("machine", "cpu", progress=False)
    index = build_index(encode(model, AwsHowtoDocuments(), machine=machine), machine=machine)
    topics = AwsHowtoTopics("test")
    run = search(index, topics, model=model, depth=10, machine=machine)
    return evaluate(run, topics, [_MEASURE]).per_query[_MEASURE]


def measure(contender: Contender, line: Line, ours: Line, seed: int) -> None:
    """Train and evaluate once, and add the results to the contender's line.

    Args:
        contender: what is trained.
        line: of the contender.
        ours: the line of irexp for the same model, which has the seed if it is another one.
        seed: decides the untrained model, the batches and dropout.

    Raises:
        RuntimeError: if the loss of the probe is not irexp's, so that they would not train the same.
    """
    size = {"steps": line.steps, "batch_size": line.batch_size, "seed": seed}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        training = training_of(contender, folder / "initial", folder / "data", **size)
        lengths = {"query_length": training.query_length, "document_length": training.document_length}
        model = new_model(contender.model, backbone=None, seed=seed, **lengths)
        save(model, folder / "initial")
        examples = QrelExamples(AwsHowtoTopics("train"))
        known = write_batches(folder / "data", examples, AwsHowtoDocuments(), model, **size)
        found = train(contender, training, folder / "training")
        expected = found["probe_loss"] if line is ours else ours.probe_loss[ours.seeds.index(seed)]
        if abs(found["probe_loss"] - expected) > TOLERANCE * expected:
            raise RuntimeError(f"{line.model}: {line.name} has the loss {found['probe_loss']}, irexp {expected}")
        line.add(seed, found, values_of(folder / "training" / "model"), known)
    measured = line.cpu_seconds[-1], line.ndcg[-1]
    log.info("%s, %s, seed %d: %.3f CPU s per step, nDCG@10 %.4f", line.model, line.name, seed, *measured)


def merged(rows: Sequence[Contender], stored: list[Line], *, steps: int, batch_size: int) -> list[Line]:
    """The stored lines, and new ones for contenders that have none; those of a model together, irexp's first.

    Raises:
        ValueError: if a stored line has another number of steps or batch size.
    """
    if any((line.steps, line.batch_size) != (steps, batch_size) for line in stored):
        raise ValueError(
            "fit_peers.json holds trainings with other steps or batch size; remove it, or name their sizes"
        )
    known = {(line.model, line.name) for line in stored}
    new = [Line(row.model, row.name, steps, batch_size) for row in rows if (row.model, row.name) not in known]
    places = {model: place for place, model in enumerate(_MODELS)}
    return sorted([*stored, *new], key=lambda line: (places[line.model], "," in line.name))


def main() -> None:
    """Measure what is not measured yet, write after each training, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key in LIBRARIES:
        option = f"--{key.replace('_', '-')}"
        parser.add_argument(option, metavar="PYTHON", help="the interpreter of its environment; else left out")
    parser.add_argument("--models", nargs="+", default=["sbert", "colbert"], choices=_MODELS)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="one per round")
    parser.add_argument("--variants", action="store_true", help="measure other settings of irexp, too")
    parser.add_argument("--note", help="a remark about the measurement, such as what else ran")
    parser.add_argument("--output", type=Path, help="a folder for fit_peers.json, whose README.md gets the table")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    given = {key: getattr(options, key) for key in LIBRARIES}
    pythons = {key: os.path.abspath(python) for key, python in given.items() if python}
    check_pythons(pythons)
    rows = contenders(options.models, pythons, variants=options.variants)
    lines = merged(rows, read(options.output), steps=options.steps, batch_size=options.batch_size)
    line_of = {(line.model, line.name): line for line in lines}
    for seed in options.seeds:
        for row in rows:
            line = line_of[row.model, row.name]
            if seed not in line.seeds:
                measure(row, line, line_of[row.model, "irexp"], seed)
                write(lines, options.output, options.note)
    log.info("%s", write(lines, options.output, options.note))


if __name__ == "__main__":
    main()
