"""irexp as one of the libraries that are compared: through the functions that `from irexp import …` exports."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irexp import (
    build_index,
    component,
    encode,
    fit,
    load,
    open_documents,
    open_examples,
    open_index,
    open_topics,
    re_rank,
    save,
    search,
)
from irexp.artifact.hardware import usable_processors
from irexp.config.schema import Encoding, Machine
from irexp.evaluation.run_file import write_run
from irexp.index.vectors import TokenVectors
from irexp.model.bi_encoder import BiEncoder
from irexp.peer.chain import Chain, run_of
from irexp.peer.growth_work import grow as grow
from irexp.peer.training import CLIP_NORM, WEIGHT_DECAY, Training
from irexp.peer.work import Encoder, Scorer, Work
from irexp.pipeline.precision import lowered
from irexp.types import Document, Query, ScoredDoc


def open_encoder(model: str, folder: str, query_length: int, document_length: int, device: str) -> Encoder:
    """A bi-encoder, which encodes with the settings of the work; that int8 is exported first is not part of a turn."""
    opened = load(folder, query_length=query_length, document_length=document_length)
    assert isinstance(opened, BiEncoder)
    in_int8 = functools.cache(lambda: lowered("encoding.precision", "int8", opened))

    def compute(texts: list[str], work: Work) -> NDArray[np.float32]:
        settings = Encoding(**work.settings["encoding"])
        transformer: AbstractContextManager[None] = nullcontext()
        if settings.precision == "int8":
            settings, transformer = replace(settings, precision="float32"), in_int8()()
        with tempfile.TemporaryDirectory() as place, transformer:
            found = encode(opened, texts, Path(place) / "encoding", settings=settings, machine=_machine(work))
            parts = [part.vectors_TH if isinstance(part, TokenVectors) else part for part in found.batches()]
            return np.concatenate([np.asarray(part, np.float32) for part in parts])

    return compute


def open_scorer(model: str, folder: str, query_length: int, document_length: int, device: str) -> Scorer:
    """A cross-encoder, which re-ranks the documents of each query; the export for int8 is not part of a turn."""
    opened = load(folder, query_length=query_length, document_length=document_length)
    in_int8 = functools.cache(lambda: lowered("re_rank.precision", "int8", opened))

    def compute(pairs: list[tuple[str, str]], work: Work) -> NDArray[np.float32]:
        queries = {text: str(number) for number, text in enumerate(dict.fromkeys(query for query, _ in pairs))}
        documents = [Document(str(number), text) for number, (_, text) in enumerate(pairs)]
        run = [ScoredDoc(queries[query], str(number), -float(number)) for number, (query, _) in enumerate(pairs)]
        topics = [Query(query_id, text) for text, query_id in queries.items()]
        precision = work.settings["re_rank"]["precision"]
        transformer: AbstractContextManager[None] = nullcontext()
        if precision == "int8":
            precision, transformer = "float32", in_int8()()
        with transformer:
            found = re_rank(
                opened, run, topics, documents, depth=len(pairs), precision=precision, machine=_machine(work)
            )
        score_of = {line.doc_id: line.score for line in found}
        return np.array([score_of[str(number)] for number in range(len(pairs))], np.float32)

    return compute


def _machine(work: Work) -> Machine:
    return Machine(**{**work.settings["machine"], "threads": work.threads, "progress": False})


def train(training: Training, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    model, probe = load(training.initial), training.probe()
    assert isinstance(model, BiEncoder)
    loss = component("loss", "info_nce", temperature=training.temperature)
    with torch.no_grad():
        query_ids = model.tokenize_queries([row["query"] for row in probe])
        document_ids = model.tokenize_documents([row["document"] for row in probe])
        queries = model.encode_queries(model.pad(query_ids, is_query=True))
        documents = model.encode_documents(model.pad(document_ids, is_query=False))
        found = float(loss(model.similarity(queries, documents)[0], torch.eye(len(probe))))
    weights = {
        "query_weight": training.query_weight,
        "document_weight": training.document_weight,
        "ramp": training.ramp,
    }
    groups: dict[str, dict[str, Any]] = {"training": {}, "machine": {}, "optimizer": {}, **training.settings}
    threads = training.threads or usable_processors()  # as the other libraries, one more than irexp's default
    machine = {"threads": threads, "progress": False, "resume_every": training.steps + 1, **groups["machine"]}
    fit(
        model,
        loss,
        open_examples(training.data),
        open_documents(training.data),
        steps=training.steps,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        regularizer=component("regularizer", "flops", **weights) if training.query_weight else None,
        optimizer=component("optimizer", weight_decay=WEIGHT_DECAY, **groups["optimizer"]),
        schedule=component("schedule", "linear_warmup", warmup=training.warm_up),
        training={"clip_norm": CLIP_NORM, **groups["training"]},
        machine=component("machine", "gpu" if training.device == "cuda" else "cpu", **machine),
        seed=training.seed,
    )
    save(model, folder)
    return found


def stages_of(chain: Chain) -> dict[str, Callable[[], object]]:
    """What indexes, searches and re-ranks."""
    encoder, scorer = (
        load(folder, query_length=chain.query_length, document_length=chain.document_length)
        for folder in (chain.encoder, chain.scorer)
    )
    documents, topics = open_documents(chain.data), open_topics(chain.data)
    vectors, index = Path(chain.output) / "encoding", Path(chain.output) / "index"
    machine = component("machine", "cpu", threads=chain.threads, progress=False)

    def run_index() -> None:
        build_index(encode(encoder, documents, vectors, machine=machine), index, machine=machine)

    def run_search() -> None:
        opened = open_index(component("index", "faiss_flat"), index)
        found = search(opened, topics, model=encoder, depth=chain.depth, machine=machine)
        write_run(run_of(chain, "search"), found, tag="irexp")

    def run_re_rank() -> None:
        run = run_of(chain, "search")
        write_run(run_of(chain, "re_rank"), re_rank(scorer, run, topics, documents, machine=machine), tag="irexp")

    return {"index": run_index, "search": run_search, "re_rank": run_re_rank}
