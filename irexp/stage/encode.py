"""The stage that makes an encoding: every document's vectors, in shards on disk.

Documents are read in windows of one shard, sorted by length within it, and encoded in batches of equal token budget;
the next window is read and tokenized by a thread meanwhile. Memory holds two windows, whatever the collection's size,
and a killed process goes on behind the last complete shard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from irexp.config.schema import Encoding, Machine
from irexp.dataset.collection import Documents
from irexp.index.bm25 import BM25Index
from irexp.index.index import Index
from irexp.index.shards import ShardWriter
from irexp.index.vectors import Vectors
from irexp.model.batching import token_budget_batches
from irexp.model.bi_encoder import BiEncoder, in_order
from irexp.model.load import load
from irexp.model.model import Model
from irexp.stage.index import check_engine
from irexp.stage.machine import prepare
from irexp.types import UserError

log = logging.getLogger(__name__)

#: A window's document ids and token sequences.
Window = tuple[list[str], list[list[int]]]


def encode(
    folder: Path,
    checkpoint: str,
    *,
    model: partial[Model],
    index: Index | BM25Index,
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
    encoder = open_encoder(checkpoint, model).to(device)
    if isinstance(index, Index):
        check_engine(index, encoder.representation)
        index.check(documents.count(), encoder.embedding_dim)
    writer = ShardWriter(folder, dtype=encoding.dtype)
    done = writer.finished
    if done:
        log.info("going on behind %s documents that are encoded already", f"{done:,}")
    with tqdm(
        total=documents.count(), initial=done, unit=" documents", desc="encode", disable=not machine.progress
    ) as progress:
        for doc_ids, token_ids in _windows(encoder, documents, skip=done, size=machine.shard_size):
            writer.write(doc_ids, _encode_window(encoder, token_ids, encoding, machine, device, progress.update))
            done += len(doc_ids)
    if not done:
        raise UserError("the collection has no documents; look at dataset.documents")
    writer.close()
    return {"documents": float(done)}


def open_encoder(checkpoint: str, model: partial[Model]) -> BiEncoder:
    """A checkpoint as a bi-encoder that is ready to encode, read as long as the configuration says."""
    encoder = open_model(checkpoint, model)
    if not isinstance(encoder, BiEncoder):
        raise UserError(
            f"{checkpoint} is a cross-encoder, which makes no embeddings to index; it re-ranks: re_rank=bm25 "
            f"stage=[re_rank,evaluate]"
        )
    return encoder


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


def _windows(encoder: BiEncoder, documents: Documents, *, skip: int, size: int) -> Iterator[Window]:
    """Tokenized windows, each made while the one before it is encoded."""
    stream = islice(iter(documents), skip, None)

    def read() -> Window:
        window = list(islice(stream, size))
        return [document.doc_id for document in window], encoder.tokenize_documents([d.text for d in window])

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read)
        while (window := coming.result())[0]:
            coming = reader.submit(read)
            yield window


@torch.inference_mode()
def _encode_window(
    encoder: BiEncoder,
    token_ids: list[list[int]],
    encoding: Encoding,
    machine: Machine,
    device: torch.device,
    advance: Callable[[int], object],
) -> Vectors:
    """The vectors of a window, in its order."""
    parts, rows = [], []
    lower = torch.autocast(device.type, torch.bfloat16) if encoding.precision == "bfloat16" else nullcontext()
    for batch in token_budget_batches([len(tokens) for tokens in token_ids], machine.token_budget):
        tokens = encoder.pad([token_ids[position] for position in batch], is_query=False)
        with lower:
            embeddings = encoder.encode_documents(tokens.to(device))
        parts.append(encoder.to_vectors(embeddings))
        rows += batch
        advance(len(batch))
    return in_order(parts, rows)
