"""Memory of training on 500,000 examples with texts: what the examples hold, and what 100 batches of 32 add.

    python tests/benchmark/training_memory.py [examples]

Each kind of training data runs in its own process: triples of ids over a collection in a file, and a file of texts. The
log shows the resident memory beyond that of the program and its model, in megabytes: after all examples were checked,
after the batches, and at its peak; the bytes of the texts for comparison; and the seconds of both parts.
"""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from irexp.dataset.collection import Documents, Examples
from irexp.dataset.examples import FileExamples
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.dataset.text_examples import ExampleDocuments, TextFileExamples
from irexp.model.dense import DenseBiEncoder
from irexp.training.batch import Batches

log = logging.getLogger(__name__)

_BATCHES = 100

#: Words per document and per query, about those of MS MARCO.
_DOCUMENT, _QUERY = 56, 6

_CONF = Path(__file__).parents[2] / "conf"


def write_data(folder: Path, examples: int) -> None:
    """A positive and a negative of their own for every query: as triples, queries and documents, and as texts."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(20_000)]
    with (
        open(folder / "triples.tsv", "w") as triples,
        open(folder / "queries.tsv", "w") as queries,
        open(folder / "corpus.tsv", "w") as corpus,
        open(folder / "texts.jsonl", "w") as texts,
    ):
        for number in range(examples):
            query, *documents = (
                f"{number} {' '.join(draw.choices(words, k=length))}" for length in (_QUERY, _DOCUMENT, _DOCUMENT)
            )
            triples.write(f"{number}\t{2 * number}\t{2 * number + 1}\n")
            queries.write(f"{number}\t{query}\n")
            corpus.write("".join(f"{2 * number + place}\t{text}\n" for place, text in enumerate(documents)))
            texts.write(json.dumps({"query": query, "pos": documents[:1], "neg": documents[1:]}) + "\n")


def opened(folder: Path, kind: str) -> tuple[Examples, Documents]:
    """The examples of a kind, and the collection."""
    if kind == "texts":
        path = str(folder / "texts.jsonl")
        return TextFileExamples(path), ExampleDocuments(path)
    topics = LocalTopics(str(folder / "queries.tsv"))
    return FileExamples(str(folder / "triples.tsv"), topics=topics), LocalDocuments(str(folder / "corpus.tsv"))


def measure(folder: Path, kind: str) -> None:
    """Log the memory of one kind, in this process."""
    backbone = instantiate(OmegaConf.load(_CONF / "backbone" / "splade_tiny.yaml"))
    model = DenseBiEncoder(backbone, query_length=16, document_length=64)
    before = _megabytes("VmRSS")
    started = time.monotonic()
    examples, documents = opened(folder, kind)
    unknown = examples.unknown_doc_ids(documents)
    batches = Batches(examples, examples.texts(documents), model, size=32, in_batch=True, seed=1, unknown=unknown)
    checked, seconds = _megabytes("VmRSS"), time.monotonic() - started
    started = time.monotonic()
    for number in range(_BATCHES):
        batches[number]
    log.info(
        "%s: %d examples, %.0f MB after the check (%.0f s), %.0f MB after %d batches (%.1f ms each), peak %.0f MB",
        kind,
        batches.examples,
        checked - before,
        seconds,
        _megabytes("VmRSS") - before,
        _BATCHES,
        (time.monotonic() - started) * 1000 / _BATCHES,
        _megabytes("VmHWM") - before,
    )


def _megabytes(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("irexp").setLevel(logging.WARNING)
    if len(sys.argv) == 3:
        measure(Path(sys.argv[1]), sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as place:
            write_data(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)
            size = (Path(place) / "texts.jsonl").stat().st_size
            log.info("the texts of the examples: %.0f MB", size / 2**20)
            for kind in ("triples", "texts"):
                subprocess.run([sys.executable, __file__, place, kind], check=True)
