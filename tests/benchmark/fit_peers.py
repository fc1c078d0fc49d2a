"""Training in irexp beside sentence-transformers, PyLate and Lightning IR: `python -m tests.benchmark.fit_peers`.

Each library trains the same untrained model on the same batches of the embedded collection, with the same lengths,
steps, learning rates, loss and optimizer, in its own environment (`fit_one`); the libraries take turns, and each round
has another seed. irexp then opens every checkpoint and evaluates it on the test queries. The processor seconds of a
step are those of one thread: tokenizing, forward, backward, optimizer.

    python -m venv st && st/bin/pip install torch==2.13.0 "sentence-transformers[train]==6.2.0"
    python -m venv lir && lir/bin/pip install torch==2.13.0 lightning-ir==0.0.6 transformers==4.51.3
    python -m venv pylate && pylate/bin/pip install torch==2.13.0 "sentence-transformers[train]==5.3.0"
    pylate/bin/pip install transformers==5.3.0
    pylate/bin/pip install --no-deps pylate==1.6.0      # of what it asks for, its engines need another torch
    python -m tests.benchmark.fit_peers --sentence-transformers st/bin/python --lightning-ir lir/bin/python \
        --pylate pylate/bin/python --variants --output experiments/speed

`--output FOLDER` writes fit_peers.json after each training, and the table in the folder's README.md, between two
comments. The same command continues where it was stopped; further models, seeds and libraries are added to the file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irexp import build_index, component, encode, evaluate, load, new_model, save, search
from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.dataset.collection import Documents, Examples
from irexp.dataset.examples import QrelExamples
from irexp.model.model import Model
from irexp.training.batch import Batches
from irexp.types import Example
from tests.benchmark.fit_job import Job
from tests.benchmark.fit_lines import Line, read, write

log = logging.getLogger(__name__)

#: The largest difference between the libraries' losses of the probe, relative to irexp's.
TOLERANCE = 1e-3

_MEASURE = "nDCG@10"
_MODELS = ("sbert", "colbert", "splade")
_ROOT = Path(__file__).parents[2]
#: As conf/dataset/aws_howto.yaml.
_QUERY_LENGTH, _DOCUMENT_LENGTH = 24, 80

#: How the other libraries are named in the table.
_NAMES = {"sentence-transformers": "sentence-transformers", "pylate": "PyLate", "lightning-ir": "Lightning IR"}

#: Settings of irexp that are measured beside its default.
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "irexp, machine.forward_tokens=1024": {"machine": {"forward_tokens": 1024}},
    "irexp, training.length_buckets=50": {"training": {"length_buckets": 50}},
}


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        model: sbert, colbert or splade.
        name: the library, and what differs from its default.
        library: that of `Job`.
        python: the interpreter of its environment.
        settings: of irexp: fields of `Job` that differ from its defaults.
    """

    model: str
    name: str
    library: str
    python: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def contenders(models: Sequence[str], pythons: Mapping[str, str], *, variants: bool) -> list[Contender]:
    """The rows: irexp, the libraries that have an environment and the model, and other settings of irexp."""
    trained_by = {
        "sbert": ("sentence-transformers", "lightning-ir"),
        "colbert": ("pylate", "sentence-transformers", "lightning-ir"),
        "splade": ("sentence-transformers",),
    }
    found = []
    for model in models:
        found.append(Contender(model, "irexp", "irexp", sys.executable))
        for library in trained_by[model]:
            if python := pythons.get(library):
                found.append(Contender(model, _NAMES[library], library, python))
        for name, settings in _VARIANTS.items() if variants else ():
            found.append(Contender(model, name, "irexp", sys.executable, settings))
    return found


def make_job(contender: Contender, initial: Path, data: Path, *, steps: int, batch_size: int, seed: int) -> Job:
    """The training of a contender, with the learning rate, loss and penalty of irexp's options."""
    is_sparse = contender.model == "splade"
    penalty = component("regularizer", "flops")
    return Job(
        library=contender.library,
        model=contender.model,
        initial=str(initial),
        data=str(data),
        steps=steps,
        batch_size=batch_size,
        learning_rate=2e-4 if is_sparse else component("training").learning_rate,  # as conf/model/splade.yaml
        warm_up=max(1, round(0.1 * steps)),
        temperature=component("loss", "info_nce" if contender.model == "sbert" else "info_nce_dot").temperature,
        query_weight=penalty.query_weight if is_sparse else 0.0,
        document_weight=penalty.document_weight if is_sparse else 0.0,
        ramp=penalty.ramp,
        seed=seed,
        query_length=_QUERY_LENGTH,
        document_length=_DOCUMENT_LENGTH,
        training=contender.settings.get("training", {}),
        machine=contender.settings.get("machine", {}),
        optimizer=contender.settings.get("optimizer", {}),
    )


def write_data(
    folder: Path, examples: Examples, documents: Documents, model: Model, *, steps: int, batch_size: int, seed: int
) -> int:
    """Write the examples of each batch that irexp draws in training the model, and a probe.

    Returns:
        The number of batches in which a query's known relevant document belongs to another query: irexp leaves it out,
        the other libraries take it for a negative.
    """
    batches = Batches(examples, documents, model, size=batch_size, in_batch=True, seed=seed)
    drawn = [[examples[position] for position in batches.positions(number)] for number in range(steps)]
    flat = [example for batch in drawn for example in batch]
    texts = {doc_id: found.text for doc_id, found in documents.get_many({e.doc_ids[0] for e in flat}).items()}
    folder.mkdir()
    probe = without_known_positives(examples, drawn[0])
    for name, some in (("pairs", flat), ("probe", probe)):
        lines = [
            json.dumps(
                {
                    "query_id": example.query.query_id,
                    "query": example.query.text,
                    "doc_id": example.doc_ids[0],
                    "document": texts[example.doc_ids[0]],
                }
            )
            for example in some
        ]
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    return sum(len(without_known_positives(examples, batch)) < len(batch) for batch in drawn)


def without_known_positives(examples: Examples, batch: Sequence[Example]) -> list[Example]:
    """The examples of a batch whose documents are not known to be relevant to another one's query, in order."""
    kept: list[Example] = []
    for example in batch:
        relevant = examples.relevant_doc_ids(example.query.query_id)
        others = {other.doc_ids[0] for other in kept}
        is_known = any(example.doc_ids[0] in examples.relevant_doc_ids(other.query.query_id) for other in kept)
        if not is_known and not relevant & others:
            kept.append(example)
    return kept


def train(contender: Contender, job: Job, folder: Path) -> dict[str, Any]:
    """Run a training in its library's environment, on one thread, and return what it measured."""
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf8")
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    known = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "IR_DATASETS_HOME": str(folder / "ir_datasets")}
    command = [contender.python, "-m", "tests.benchmark.fit_one", str(folder)]
    done = subprocess.run(command, env=os.environ | one | known, capture_output=True, text=True, cwd=_ROOT)
    if done.returncode:
        raise RuntimeError(f"{contender.name} failed to train {contender.model}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf8"))
    return found


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
        job = make_job(contender, folder / "initial", folder / "data", **size)
        lengths = {"query_length": job.query_length, "document_length": job.document_length}
        model = new_model(contender.model, backbone=None, seed=seed, **lengths)
        save(model, folder / "initial")
        examples = QrelExamples(AwsHowtoTopics("train"))
        known = write_data(folder / "data", examples, AwsHowtoDocuments(), model, **size)
        found = train(contender, job, folder / "training")
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
    for library in _NAMES:
        parser.add_argument(f"--{library}", metavar="PYTHON", help="the interpreter of its environment; else left out")
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
    given = {library: getattr(options, library.replace("-", "_")) for library in _NAMES}
    pythons = {library: os.path.abspath(python) for library, python in given.items() if python}
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
