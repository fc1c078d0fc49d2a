"""Index, search and re-rank as one piece of work, from texts on disk to a re-ranked run on disk, in each library."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The stages, in their order; each one's `work` reads what the one before has written.
STAGES = ("index", "search", "re_rank")

#: The file in the output folder to which `search` writes, and that of `re_rank`.
RUNS = {"search": "found.run", "re_rank": "re_ranked.run"}


@dataclass(frozen=True)
class Chain:
    """What is done.

    Attributes:
        encoder: the folder of a bi-encoder, as irexp saves it.
        scorer: that of a cross-encoder.
        data: a folder in BEIR's layout, whose texts are single lines without tabs, with the same as docs.tsv and
            queries.tsv.
        output: an empty folder.
        query_length: tokens kept per query.
        document_length: tokens kept per document.
        depth: documents per query, of which all are re-ranked.
        documents: how many there are.
        queries: how many there are.
        threads: 1 for one thread; None for all cores.
    """

    encoder: str
    scorer: str
    data: str
    output: str
    query_length: int
    document_length: int
    depth: int
    documents: int
    queries: int
    threads: int | None


def timed(work: Mapping[str, Callable[[], object]]) -> dict[str, Any]:
    """Run each stage of `STAGES`, and return the seconds of each: of the processor and by the clock."""
    found = {}
    for stage in STAGES:
        cpu, wall = time.process_time(), time.perf_counter()
        work[stage]()
        found[stage] = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    return {"stages": found}


def run_of(chain: Chain, stage: str) -> Path:
    """The file that a stage writes."""
    return Path(chain.output) / RUNS[stage]
