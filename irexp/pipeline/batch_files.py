"""The results of batches of queries, each batch in a run file of its own, until all are there.

A killed process resumes after its last batch, and of several processes that make shares each makes its own batches. All
of them must cut the same queries into the same batches, since the last bits of a score may depend on the batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from irexp.artifact.disk import sync_entries
from irexp.evaluation.run_file import write_run
from irexp.pipeline.machine import share
from irexp.types import ScoredDoc

T = TypeVar("T")

#: The end of a query's first line: rank 1, a score and the tag. No other columns match, even if an id is 1.
_FIRST = re.compile(rb"\t1\t[^\t\n]+\t[^\t\n]+\n")


def own_batches(batches: Iterable[T]) -> Iterator[T]:
    """The batches that this process makes: all, or of n shares every n-th (`making_share`)."""
    number, shares = share() or (0, 1)
    return islice(batches, number, None, shares)


def batch_prefix(folder: Path, ids: Sequence[object]) -> Path:
    """How the names of a batch's files begin: a digest of its ids, so that other batches have other files."""
    return folder / hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def batch_file(prefix: Path) -> Path:
    """The run file of a batch."""
    return prefix.with_suffix(".run")


def write_batch(prefix: Path, lines: Iterable[ScoredDoc]) -> None:
    """Write the run file of a batch, which is complete or absent, even after a power failure."""
    prefix.parent.mkdir(exist_ok=True)
    partial = prefix.with_suffix(".run-partial")
    write_run(partial, lines, tag="irexp")
    sync_entries(partial)
    os.replace(partial, batch_file(prefix))


def join_batches(prefixes: Iterable[Path], path: Path) -> int:
    """Join the run files of all batches into one, with the bytes that `write_run` makes of all their lines.

    Returns:
        The number of queries with a document.
    """
    answered = 0
    with path.open("wb") as file:
        for prefix in prefixes:
            content = batch_file(prefix).read_bytes()
            answered += len(_FIRST.findall(content))
            file.write(content)
    return answered
