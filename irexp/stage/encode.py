"""The stage that makes an encoding: every document's vectors, in shards on disk.

Documents are read in windows of one shard, sorted by length within it, and encoded in batches of equal token budget;
the next window is read and tokenized by a thread meanwhile. Memory holds two windows, whatever the collection's size,
and a killed process goes on behind the last complete shard. Several devices encode every n-th window each; the
shards are the same as those of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path

import torch
from tqdm import tqdm

from irexp.config.schema import Encoding, Machine
from irexp.dataset.collection import Documents
from irexp.index.index import Index
from irexp.index.shards import ShardWriter, write_shard
from irexp.index.vectors import Queries, Vectors
from irexp.model.batching import TokenBudget
from irexp.model.bi_encoder import BiEncoder, in_order
from irexp.model.load import load
from irexp.model.model import Model
from irexp.stage.index import check_engine
from irexp.stage.machine import is_helper, prepare, share_work
from irexp.types import UserError

log = logging.getLogger(__name__)

#: A window's document ids and token sequences.
Window = tuple[list[str], list[list[int]]]


def encode(
    folder: Path,
    checkpoint: str,
    *,
    model: partial[Model],
    index: Index,
    documents: Documents,
    encoding: Encoding,
    machine: Machine,
) -> dict[str, float]:
    """Encode a collection into `folder`, going on where a killed process stopped.

    The engine that is to search is only asked whether it can: not when hours of encoding are behind it.

    Returns:
        The number of documents.
    """
    device = prepare(machine)
    encoder = open_encoder(checkpoint, model)
    check_engine(index, encoder.representation)
    index.check(documents.count(), encoder.embedding_dim)
    writer = ShardWriter(folder, dtype=encoding.dtype)
    done = writer.finished
    if done:
        log.info("going on behind %s documents that are encoded already", f"{done:,}")
    share = _Share(folder, encoder, documents, encoding, machine, first_shard=writer.shards, skip=done)
    share_work(share.encode, machine, device)
    if is_helper(machine):
        return {}
    writer = ShardWriter(folder, dtype=encoding.dtype)
    if not writer.finished:
        raise UserError("the collection has no documents; look at dataset.documents")
    writer.close()
    return {"documents": float(writer.finished)}


@dataclass
class _Share:
    """What a process needs to encode every n-th window of a collection; each window becomes a shard."""

    folder: Path
    encoder: BiEncoder
    documents: Documents
    encoding: Encoding
    machine: Machine
    first_shard: int
    skip: int

    def encode(self, device: torch.device, rank: int, processes: int) -> None:
        """Encode the windows of one process; which process has a window does not change its shard."""
        self.encoder.to(device)
        budget = TokenBudget(self.machine.token_budget)
        total = self.documents.count()
        with tqdm(
            total=total if total is None or processes == 1 else total // processes,
            initial=self.skip // processes,
            unit=" documents",
            desc="encode" if processes == 1 else f"encode (one of {processes} processes)",
            disable=not self.machine.progress or rank > 0,
        ) as progress:
            windows = _windows(
                self.encoder, self.documents, skip=self.skip, size=self.machine.shard_size, rank=rank, step=processes
            )
            for number, (doc_ids, token_ids) in windows:
                vectors = _encode_window(self.encoder, token_ids, self.encoding, budget, device, progress.update)
                write_shard(self.folder, self.first_shard + number, doc_ids, vectors, dtype=self.encoding.dtype)


def open_encoder(checkpoint: str, model: partial[Model]) -> BiEncoder:
    """A checkpoint as a bi-encoder that is ready to encode, read as long as the configuration says."""
    encoder = open_model(checkpoint, model)
    if not isinstance(encoder, BiEncoder):
        raise UserError(
            f"{checkpoint} is a cross-encoder, which makes no embeddings to index; it re-ranks: re_rank=bm25 "
            f"stage=[re_rank,evaluate]"
        )
    return encoder


def query_encoder(
    checkpoint: str | None, model: partial[Model], index: Index, device: torch.device, budget: TokenBudget
) -> Callable[[list[str]], Queries]:
    """From queries to what an engine is searched with: their vectors, or without a model the queries themselves."""
    if checkpoint is None:
        check_engine(index, "text")
        return list
    encoder = open_encoder(checkpoint, model).to(device)
    check_engine(index, encoder.representation)
    return partial(encoder.embed_queries, budget=budget)


def open_model(checkpoint: str, model: partial[Model]) -> Model:
    """A checkpoint as a model that is ready to score, read as long as the configuration says.

    The checkpoint decides its own architecture; of `model` only the lengths and the name are used.
    """
    settings = model.keywords
    return load(
        checkpoint,
        name=settings["name"],
        query_length=settings["query_length"],
        document_length=settings["document_length"],
        like=model,
    )


def _windows(
    encoder: BiEncoder, documents: Documents, *, skip: int, size: int, rank: int, step: int
) -> Iterator[tuple[int, Window]]:
    """Every `step`-th tokenized window from `rank` on with its number, each made while the one before it is encoded."""
    stream = islice(iter(documents), skip, None)
    numbers = count()

    def read() -> tuple[int, Window]:
        while window := list(islice(stream, size)):
            number = next(numbers)
            if number % step == rank:
                tokens = encoder.tokenize_documents([document.text for document in window])
                return number, ([document.doc_id for document in window], tokens)
        return 0, ([], [])

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read)
        while (found := coming.result())[1][0]:
            coming = reader.submit(read)
            yield found


@torch.inference_mode()
def _encode_window(
    encoder: BiEncoder,
    token_ids: list[list[int]],
    encoding: Encoding,
    budget: TokenBudget,
    device: torch.device,
    advance: Callable[[int], object],
) -> Vectors:
    """The vectors of a window, in its order."""
    lower = torch.autocast(device.type, torch.bfloat16) if encoding.precision == "bfloat16" else nullcontext()

    def encode(batch: list[int]) -> Vectors:
        tokens = encoder.pad([token_ids[position] for position in batch], is_query=False)
        with lower:
            embeddings = encoder.encode_documents(tokens.to(device))
        return encoder.to_vectors(embeddings)

    parts, rows = [], []
    for batch, vectors in budget.over([len(tokens) for tokens in token_ids], encode):
        parts.append(vectors)
        rows += batch
        advance(len(batch))
    return in_order(parts, rows)
