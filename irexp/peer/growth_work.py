"""A stage over a synthetic collection of any size, in a process of its own: its seconds and its peak memory."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irexp import build_index, component, evaluate, load, open_documents, open_index, open_topics, re_rank
from irexp.config.schema import Machine
from irexp.evaluation.run_file import read_run, write_run
from irexp.index.shards import EncodedDocuments
from irexp.peer.worker import peak_memory
from irexp.pipeline.encode import check_bi_encoder, write_encoding
from irexp.pipeline.search import stream_search
from irexp.types import ScoredDoc

#: The stages, in their order.
STAGES = ("encode", "index", "search", "re_rank", "evaluate")

#: The stages that several processes share. Of indexes they share the parts of `sharded` alone, and this one is exact.
SHARED = ("encode",)

#: Results per query, and how many of them are re-ranked.
DEPTH, HEAD = 1000, 20

_WORDS_PER_TEXT = 10


def write_inputs(folder: Path, words: Sequence[str], *, documents: int, queries: int) -> None:
    """Write random texts in BEIR's layout, one relevant document per query, and a run as large as a search makes."""
    (folder / "qrels").mkdir(parents=True)
    for name, count in (("corpus", documents), ("queries", queries)):
        generator = random.Random(name)
        with (folder / f"{name}.jsonl").open("w", encoding="utf8") as file:
            for number in range(count):
                text = " ".join(generator.choices(words, k=_WORDS_PER_TEXT))
                file.write(json.dumps({"_id": f"{name[0]}{number}", "text": text}) + "\n")
    with (folder / "qrels" / "test.tsv").open("w", encoding="utf8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        file.writelines(f"q{number}\tc{number % documents}\t1\n" for number in range(queries))
    depth = min(DEPTH, documents)
    lines = (
        ScoredDoc(f"q{query}", f"c{(query * 7919 + rank) % documents}", -float(rank))
        for query in range(queries)
        for rank in range(depth)
    )
    write_run(folder / "given.run", lines, tag="irexp")


def grow(request: dict[str, Any]) -> dict[str, Any]:
    """Run a stage, and return its seconds and the memory beyond that of what it opens before, in MiB.

    Args:
        request: the stage, the folder of inputs with the model, and the values of conf/machine.
    """
    machine = Machine(**request["machine"])
    work = _prepared(request["stage"], Path(request["folder"]), machine)
    before, start = peak_memory(), time.perf_counter()
    work()
    return {"wall_seconds": time.perf_counter() - start, "more_mib": peak_memory() - before}


def _prepared(stage: str, folder: Path, machine: Machine) -> Callable[[], object]:
    """A stage with what it opens beforehand; the results of the stages before are in the folder."""
    model, topics = load(folder / "model"), open_topics(folder)
    if stage == "encode":
        place = _empty(folder / "encoding")
        encoder, documents, settings = check_bi_encoder(model), open_documents(folder), component("encoding")
        return lambda: write_encoding(encoder, documents, place, settings=settings, machine=machine)
    if stage == "index":
        encoding, place = EncodedDocuments(folder / "encoding"), folder / "index"
        if place.exists():
            shutil.rmtree(place)
        return lambda: build_index(encoding, place, machine=machine)
    if stage == "search":
        index = open_index(component("index", "faiss_flat"), folder / "index")
        found = stream_search(
            index, topics, model=model, depth=DEPTH, remove_query=False, excluded=frozenset(), machine=machine
        )
        return lambda: write_run(folder / "found.run", found, tag="irexp")
    if stage == "re_rank":
        return lambda: re_rank(model, folder / "given.run", topics, folder, depth=HEAD, machine=machine)
    return lambda: evaluate(read_run(folder / "given.run"), topics, ["nDCG@10", "RR@10", "R@1000"])


def _empty(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder
