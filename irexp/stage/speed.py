"""The stage that measures the cost of a search: time, memory, disk space, and recall of the exact results."""

from __future__ import annotations

import copy
import gc
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from irexp.artifact.hardware import return_freed_memory
from irexp.artifact.manifest import MANIFEST, read_manifest
from irexp.config.schema import Machine, Search
from irexp.dataset.collection import Topics
from irexp.index.exact import best_of_all
from irexp.index.index import Index
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, count, take
from irexp.model.model import Model
from irexp.pipeline.machine import prepare
from irexp.pipeline.search import check_depth, query_encoder
from irexp.stage.checkpoint import open_encoder

log = logging.getLogger(__name__)

#: How many queries are timed: the first of the test set.
QUERIES = 128

_REPETITIONS = 5


def speed(
    folder: Path,
    index_folder: Path,
    checkpoint: str | None,
    encoding: Path | None,
    *,
    model: partial[Model],
    index: Index,
    topics: Topics,
    search: Search,
    machine: Machine,
) -> dict[str, float]:
    """Time searches with the first queries of `topics`; encoding the queries is not counted.

    Returns:
        Milliseconds per query, one by one and in one batch (medians); memory of the index (MiB) and bytes per document,
        unless a server holds it; seconds of building; and recall of the exact top 10 and of all exact results.
    """
    device = prepare(machine)
    check_depth(search.depth)
    texts = [query.text for query in topics.queries()][:QUERIES]
    with torch.inference_mode():
        encoder = None if checkpoint is None else open_encoder(checkpoint, model)
        queries = query_encoder(encoder, index, device, machine)(texts)
    _open(copy.deepcopy(index), index_folder, device).search(take(queries, slice(1)), search.depth)  # compiles, imports
    before = _memory(device)
    _open(index, index_folder, device)
    measured = _times(lambda part: index.search(part, search.depth), queries)
    if is_on_server(index):
        log.info("speed: a server holds the index, so that its memory and its bytes per document are not known here")
    else:
        measured["memory_mib"] = (_memory(device) - before) / 2**20
        size = sum(path.stat().st_size for path in index_folder.rglob("*") if path.is_file())
        measured["bytes_per_document"] = size / max(1, len(index))
    if (index_folder / MANIFEST).is_file():
        measured["build_seconds"] = float(read_manifest(index_folder)["provenance"]["seconds"])
    if encoding is not None:
        measured |= _recall(index, queries, search.depth, EncodedDocuments(encoding))
    return {name: round(value, 6) for name, value in measured.items()}


def is_on_server(index: Index) -> bool:
    """Whether a server holds the documents of an engine, or of one that it fills: index.uri, or index.engine.uri."""
    held = [one for value in vars(index).values() for one in (value if isinstance(value, list) else [value])]
    inner = [one for one in held if isinstance(one, Index)]
    return getattr(index, "_uri", None) is not None or any(map(is_on_server, inner))


def _open(index: Index, folder: Path, device: torch.device) -> Index:
    index.load(folder)
    index.to(device)
    return index


def _memory(device: torch.device) -> int:
    """The bytes in use by this process and on its GPU, after Python and the allocators have freed what they can.

    On a GPU those of other processes are counted, too.
    """
    gc.collect()
    return_freed_memory()
    held = int(psutil.Process().memory_info().rss)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # of an index that was opened before, in whose place the next one would be put unseen
        free, total = torch.cuda.mem_get_info(device)
        held += total - free
    return held


def _times(search: Callable[[Queries], object], queries: Queries) -> dict[str, float]:
    total = count(queries)
    search(queries)  # warms pages and caches, as they are in regular use
    one, many = [], []
    for number in range(total):
        start = time.perf_counter()
        search(take(queries, slice(number, number + 1)))
        one.append(time.perf_counter() - start)
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        search(queries)
        many.append((time.perf_counter() - start) / total)
    return {
        "ms_one_by_one": 1000 * statistics.median(one),
        "ms_at_once": 1000 * statistics.median(many),
        "queries_per_second_one_by_one": 1 / statistics.median(one),
        "queries_per_second_at_once": 1 / statistics.median(many),
    }


def _recall(index: Index, queries: Queries, depth: int, encoding: EncodedDocuments) -> dict[str, float]:
    assert not isinstance(queries, list)
    depth = min(depth, len(encoding))
    exact_scores, exact_rows = best_of_all(encoding, queries, depth)
    found_scores, found_rows = index.search(queries, depth)
    recall = {}
    for name, cut in (("recall_of_exact_10", min(10, depth)), ("recall_of_exact", depth)):
        shares = []
        for scores, rows, own_scores, own in zip(exact_scores, exact_rows, found_scores, found_rows, strict=True):
            wanted = rows[:cut][rows[:cut] >= 0]
            if not len(wanted):
                continue
            # a document that ties with the last exact result counts as found
            last = scores[len(wanted) - 1]
            ties = own_scores[:cut] >= last - 1e-4 * abs(float(last))
            right = np.isin(own[:cut], wanted) | (ties & (own[:cut] >= 0))
            shares.append(min(1.0, right.sum() / len(wanted)))
        recall[name] = float(np.mean(shares)) if shares else 1.0
    return recall
