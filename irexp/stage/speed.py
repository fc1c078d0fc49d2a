"""The stage that measures what a search costs: time, memory, space, and what of the exact results it finds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from irexp.artifact.store import MANIFEST, read_manifest
from irexp.config.schema import Machine, Search
from irexp.dataset.collection import Topics
from irexp.index.bm25 import BM25Index
from irexp.index.exact import best_of_all
from irexp.index.index import Index
from irexp.index.shards import Encoding
from irexp.index.vectors import Vectors, count, take
from irexp.model.model import Model
from irexp.stage.encode import open_encoder
from irexp.stage.machine import prepare
from irexp.stage.search import check_depth

#: Queries that are timed; the first of the test set.
QUERIES = 128

_REPETITIONS = 5


def speed(
    folder: Path,
    index_folder: Path,
    checkpoint: str | None,
    encoding: Path | None,
    *,
    model: partial[Model],
    index: Index | BM25Index,
    topics: Topics,
    search: Search,
    machine: Machine,
) -> dict[str, float]:
    """Search with the first queries of `topics` again and again; encoding them is not counted.

    Returns:
        Milliseconds a query, one by one and all at once (medians); how much the process grew by; bytes a document;
        seconds of building; and the part of the exact top 10 and of the exact results that are found.
    """
    device = prepare(machine)
    check_depth(search)
    queries = [query.text for query in topics.queries()][:QUERIES]
    before = psutil.Process().memory_info().rss
    index.load(index_folder)
    if isinstance(index, BM25Index):
        measured = _times(lambda texts: index.search(texts, search.depth), queries)
    else:
        assert checkpoint is not None and encoding is not None
        index.to(device)
        with torch.inference_mode():
            encoder = open_encoder(checkpoint, model).to(device)
            vectors = encoder.embed_queries(queries)
        del encoder
        measured = _times(lambda part: index.search(part, search.depth), vectors)
    measured["memory_mib"] = (psutil.Process().memory_info().rss - before) / 2**20
    size = sum(path.stat().st_size for path in index_folder.rglob("*") if path.is_file())
    measured["bytes_per_document"] = size / max(1, len(index))
    if (index_folder / MANIFEST).is_file():
        measured["build_seconds"] = float(read_manifest(index_folder)["provenance"]["seconds"])
    if not isinstance(index, BM25Index) and encoding is not None:
        measured |= _recall(index, vectors, search.depth, Encoding(encoding))
    return {name: round(value, 6) for name, value in measured.items()}


def _times(search: Callable[[Any], object], queries: Sequence[str] | Vectors) -> dict[str, float]:
    def part(start: int, end: int) -> Any:
        return queries[start:end] if isinstance(queries, list) else take(queries, slice(start, end))  # type: ignore[arg-type]

    total = len(queries) if isinstance(queries, list) else count(queries)  # type: ignore[arg-type]
    search(part(0, total))  # pages and caches are warm from here on, as they are in use
    one, many = [], []
    for number in range(total):
        start = time.perf_counter()
        search(part(number, number + 1))
        one.append(time.perf_counter() - start)
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        search(part(0, total))
        many.append((time.perf_counter() - start) / total)
    return {
        "ms_one_by_one": 1000 * statistics.median(one),
        "ms_at_once": 1000 * statistics.median(many),
        "queries_per_second": 1 / statistics.median(many),
    }


def _recall(index: Index, queries: Vectors, depth: int, encoding: Encoding) -> dict[str, float]:
    depth = min(depth, len(encoding))
    exact_scores, exact_rows = best_of_all(encoding, queries, depth)
    found_scores, found_rows = index.search(queries, depth)
    parts = {}
    for name, cut in (("recall_of_exact_10", min(10, depth)), ("recall_of_exact", depth)):
        shares = []
        for scores, rows, own_scores, own in zip(exact_scores, exact_rows, found_scores, found_rows, strict=True):
            wanted = rows[:cut][rows[:cut] >= 0]
            if not len(wanted):
                continue
            # a document with the score of the last place is as good as the one that stands there
            last = scores[len(wanted) - 1]
            ties = own_scores[:cut] >= last - 1e-4 * abs(float(last))
            right = np.isin(own[:cut], wanted) | (ties & (own[:cut] >= 0))
            shares.append(min(1.0, right.sum() / len(wanted)))
        parts[name] = float(np.mean(shares)) if shares else 1.0
    return parts
