"""Encode a collection: the vectors of all documents, in shards on disk.

Documents are read in windows of one shard each, sorted by length and encoded in batches of equal token budget, while a
thread reads and tokenizes the next window. Memory holds two windows, whatever the collection's size. Each of n devices
encodes every n-th window; the shards do not depend on n.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch

from irexp.config.schema import Encoding, Machine
from irexp.dataset.collection import Documents
from irexp.dataset.sources import DocumentSource, open_documents
from irexp.index.parts import Parts
from irexp.index.shards import (
    EncodedDocuments,
    ShardWriter,
    complete_shards,
    keep_shard_size,
    part_prefix,
    write_shard,
)
from irexp.index.vectors import Vectors
from irexp.model.batching import TokenBudget
from irexp.model.bi_encoder import BiEncoder, in_order
from irexp.model.model import Model
from irexp.pipeline.component import component
from irexp.pipeline.machine import is_helper, prepare, share, share_work, token_budget
from irexp.pipeline.precision import check_computation, lowered
from irexp.pipeline.scratch import new_folder, remove_with
from irexp.progress import progress
from irexp.types import UserError

log = logging.getLogger(__name__)

#: A window's document ids and token sequences.
Window = tuple[list[str], list[list[int]]]


def encode(
    model: Model,
    documents: DocumentSource,
    folder: str | Path | None = None,
    *,
    settings: Encoding | None = None,
    machine: Machine | None = None,
) -> EncodedDocuments:
    """Encode every document.

    Args:
        model: a bi-encoder.
        documents: what `open_documents` opens: texts, a folder in BEIR's layout, a file, an id of ir_datasets.
        folder: a new folder for the vectors; None for a temporary one.
        settings: how vectors are computed and stored; None for `component("encoding")`.
        machine: where it runs; None for `component("machine")`.

    Raises:
        UserError: if the model makes no embeddings, or there are no documents.
    """
    encoder, machine = check_bi_encoder(model), machine or component("machine")
    with new_folder(folder) as place:
        write_encoding(
            encoder, open_documents(documents), place, settings=settings or component("encoding"), machine=machine
        )
        encoding = EncodedDocuments(place)
    if folder is None:
        remove_with(encoding, place)
    return encoding


def check_bi_encoder(model: Model) -> BiEncoder:
    """Refuse a model that makes no embeddings."""
    if isinstance(model, BiEncoder):
        return model
    raise UserError(
        f"{model.name} is a {type(model).__name__}, a cross-encoder, which makes no embeddings; call re_rank with it"
    )


def write_encoding(
    encoder: BiEncoder, documents: Documents, folder: Path, *, settings: Encoding, machine: Machine
) -> int:
    """Encode documents into a folder, resuming what a killed process did there.

    Returns:
        The number of documents; 0 on every node but the first, and for a share.

    Raises:
        UserError: if there are no documents, or int8 is asked for and cannot be had.
    """
    device = prepare(machine)
    check_computation("encoding.precision", settings.precision, device)
    encoder.eval()
    if share() is not None:
        if not keep_shard_size(folder, machine.shard_size):
            log.info("shards of another size were begun: what is missing is encoded in one piece, after this")
            return 0
        found = complete_shards(folder)
        first, skip, done, complete = 0, 0, sum(found.values()), frozenset(found)
    else:
        writer = ShardWriter(folder, dtype=settings.dtype, shard_size=machine.shard_size)
        first, skip, done = writer.shards, writer.finished, writer.finished + sum(writer.later.values())
        complete = frozenset(number - writer.shards for number in writer.later)
    if done:
        log.info("resuming after %s documents that are encoded already", f"{done:,}")
    own = _Share(folder, encoder, documents, settings, machine, first, skip=skip, done=done, complete=complete)
    share_work(own.encode, machine, device)
    if is_helper(machine):
        return 0
    writer = ShardWriter(folder, dtype=settings.dtype)
    if not writer.finished:
        raise UserError("the collection has no documents; check dataset.documents")
    writer.close()
    return writer.finished


@dataclass
class _Share:
    """What a process needs to encode every n-th window of a collection; each window becomes a shard.

    Attributes:
        first_shard: the shard of the first window.
        skip: the documents before the first window.
        done: all documents that are encoded already, those in complete windows included.
        complete: the windows whose shards are complete.
    """

    folder: Path
    encoder: BiEncoder
    documents: Documents
    settings: Encoding
    machine: Machine
    first_shard: int
    skip: int
    done: int
    complete: frozenset[int]

    def encode(self, device: torch.device, rank: int, processes: int) -> None:
        """Encode the windows of one process; a window's shard does not depend on the process."""
        self.encoder.to(device)
        budget = token_budget(self.machine, self.encoder, device, processes)
        total = self.documents.count()
        in_precision = lowered("encoding.precision", self.settings.precision, self.encoder)
        with (
            in_precision(),
            progress(
                total=total if total is None or processes == 1 else total // processes,
                initial=self.done // processes,
                unit=" documents",
                desc="encode" if processes == 1 else f"encode (one of {processes} processes)",
                shown=self.machine.progress and rank == 0,
            ) as bar,
        ):
            windows = _windows(self, rank=rank, step=processes)
            for number, (doc_ids, token_ids) in windows:
                shard = self.first_shard + number
                parts = Parts(part_prefix(self.folder, shard), advance=lambda rows: bar.update(len(rows)))
                vectors = _encode_window(self.encoder, token_ids, budget, device, parts)
                write_shard(self.folder, shard, doc_ids, vectors, dtype=self.settings.dtype)
                parts.remove()


def _windows(share: _Share, *, rank: int, step: int) -> Iterator[tuple[int, Window]]:
    """Yield every `step`-th tokenized window from `rank` on that is not complete; a thread prepares the next one."""
    stream = islice(iter(share.documents), share.skip, None)
    numbers = count()

    def read() -> tuple[int, Window]:
        while window := list(islice(stream, share.machine.shard_size)):
            number = next(numbers)
            if number % step == rank and number not in share.complete:
                tokens = share.encoder.tokenize_documents([document.text for document in window])
                return number, ([document.doc_id for document in window], tokens)
        return 0, ([], [])

    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(read)
        while (found := upcoming.result())[1][0]:
            upcoming = reader.submit(read)
            yield found


@torch.inference_mode()
def _encode_window(
    encoder: BiEncoder,
    token_ids: list[list[int]],
    budget: TokenBudget,
    device: torch.device,
    parts: Parts,
) -> Vectors:
    """Encode a window, except for what is in `parts`; the vectors keep its order."""

    def encode(batch: list[int]) -> Vectors:
        tokens = encoder.pad([token_ids[position] for position in batch], is_query=False)
        return encoder.to_vectors(encoder.encode_documents(tokens.to(device)))

    batches, rows = [], []
    for batch, vectors in budget.resume_batches([len(tokens) for tokens in token_ids], encode, parts):
        batches.append(vectors)
        rows += batch
    return in_order(batches, rows)
