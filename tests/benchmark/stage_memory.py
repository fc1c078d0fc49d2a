"""Peak memory of encode, index, search, re_rank and evaluate over growing collections and query sets.

    python tests/benchmark/stage_memory.py
    python tests/benchmark/stage_memory.py --documents 10000 100000 1000000 --queries 1000 10000 50000

Each stage runs in its own process, as a job runs it, over random texts and a tiny random BERT; the table shows the
peak memory beyond that of a process that has imported and opened the same, and the seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from irexp import build_index, component, load, new_model, open_documents, open_index, open_topics, save
from irexp.config.schema import Machine
from irexp.dataset.local import LocalTopics
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.evaluation.run_file import read_run, write_run
from irexp.index.shards import EncodedDocuments
from irexp.pipeline.encode import check_bi_encoder, write_encoding
from irexp.pipeline.re_rank import re_rank
from irexp.pipeline.search import stream_search
from irexp.types import ScoredDoc
from tests import tiny

log = logging.getLogger(__name__)

DEPTH = 1000

#: Candidates per query that are re-ranked.
HEAD = 20


def machine() -> Machine:
    """One thread, without progress bars."""
    found: Machine = component("machine", "cpu", threads=1, progress=False)
    return found


def texts(count: int, seed: int) -> list[str]:
    """Texts of ten words that the tiny tokenizer knows."""
    words = [word for word in tiny.WORDS if word.isalpha()]
    generator = random.Random(seed)
    return [" ".join(generator.choices(words, k=10)) for _ in range(count)]


def write_inputs(folder: Path, documents: int, queries: int) -> None:
    """A collection in BEIR's layout, a run over it as large as a search makes, and the tiny model."""
    (folder / "qrels").mkdir(parents=True)
    for name, count in (("corpus", documents), ("queries", queries)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for number, text in enumerate(texts(count, seed=len(name))):
                file.write(json.dumps({"_id": f"{name[0]}{number}", "text": text}) + "\n")
    with (folder / "qrels" / "test.tsv").open("w") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        file.writelines(f"q{number}\tc{number % documents}\t1\n" for number in range(queries))
    depth = min(DEPTH, documents)
    write_run(
        folder / "given.run",
        (
            ScoredDoc(f"q{q}", f"c{(q * 7919 + rank) % documents}", -float(rank))
            for q in range(queries)
            for rank in range(depth)
        ),
        tag="t",
    )
    save(new_model("sbert", backbone=str(tiny.bert(folder / "bert"))), folder / "model")


def prepared(stage: str, folder: Path) -> Callable[[], object]:
    """A stage with what it opens beforehand."""
    model = load(folder / "model")
    topics = open_topics(folder)
    if stage == "encode":
        (folder / "encoding").mkdir()
        settings, encoder = component("encoding"), check_bi_encoder(model)
        documents = open_documents(folder)
        return lambda: write_encoding(encoder, documents, folder / "encoding", settings=settings, machine=machine())
    if stage == "index":
        encoding = EncodedDocuments(folder / "encoding")
        return lambda: build_index(encoding, folder / "index", machine=machine())
    if stage == "search":
        index = open_index(component("index", "faiss_flat"), folder / "index")
        found = stream_search(
            index, topics, model=model, depth=DEPTH, remove_query=False, excluded=frozenset(), machine=machine()
        )
        return lambda: write_run(folder / "found.run", found, tag="t")
    if stage == "re_rank":
        return lambda: re_rank(model, folder / "given.run", topics, folder, depth=HEAD, machine=machine())
    assert isinstance(topics, LocalTopics)
    measures = parse_measures(["nDCG@10", "RR@10", "R@1000"])
    return lambda: evaluate(read_run(folder / "given.run"), topics.qrels(), measures)


def measure(stage: str, folder: Path) -> None:
    """Print the seconds of a stage and the MiB that it needs beyond what was opened."""
    work = prepared(stage, folder)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"mib": (peak - before) / 1024, "seconds": seconds}) + "\n")


def main() -> None:
    """Measure every stage over every size."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage == "inputs":
        write_inputs(arguments.folder, *arguments.documents, *arguments.queries)
        return
    if arguments.stage is not None:
        measure(arguments.stage, arguments.folder)
        return
    log.info("| documents | queries | stage | MiB | seconds |\n| ---: | ---: | --- | ---: | ---: |")
    by_documents = [(documents, min(arguments.queries)) for documents in arguments.documents]
    by_queries = [(min(arguments.documents), queries) for queries in arguments.queries]
    for documents, queries in dict.fromkeys([*by_documents, *by_queries]):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "data"
            sizes = ["--documents", str(documents), "--queries", str(queries)]  # a child begins with its parent's peak
            subprocess.run([sys.executable, __file__, "--stage", "inputs", "--folder", str(folder), *sizes], check=True)
            for stage in ("encode", "index", "search", "re_rank", "evaluate"):
                command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                log.info(
                    "| %s | %s | %s | %.0f | %.1f |",
                    *(f"{documents:,}", f"{queries:,}", stage, found["mib"], found["seconds"]),
                )


if __name__ == "__main__":
    main()
