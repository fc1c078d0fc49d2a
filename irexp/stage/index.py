"""The stage that makes an index, from an encoding or, for BM25, from the texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents
from irexp.index.bm25 import BM25Index
from irexp.index.ids import IdList
from irexp.index.index import Index
from irexp.index.sharded import Sharded
from irexp.index.shards import Encoding
from irexp.index.vectors import Representation
from irexp.stage.machine import is_helper, prepare, share_work
from irexp.types import UserError

if TYPE_CHECKING:
    import torch

#: The prefix of the files that hold the document ids of an index, in the order of its rows.
IDS = "ids"


def index(
    folder: Path,
    encoding: Path | None,
    *,
    index: Index | BM25Index,
    documents: Documents,
    machine: Machine,
) -> dict[str, float]:
    """Build an index in `folder`.

    Returns:
        The number of documents.
    """
    device = prepare(machine)
    if is_helper(machine) and not isinstance(index, Sharded):
        return {}
    if isinstance(index, BM25Index):
        index.build(documents, count=documents.count())
        index.save(folder)
        return {"documents": float(len(index))}
    assert encoding is not None, "an index of vectors is made from an encoding"
    encoded = Encoding(encoding)
    check_engine(index, encoded.representation)
    if isinstance(index, Sharded):
        work = partial(_build_parts, index=index, encoding=encoding, folder=folder, machine=machine)
        share_work(work, machine, device)
        if is_helper(machine):
            return {}
    else:
        index.build_on(device)
        _build(index.build, encoded, folder, machine)
    IdList.write(folder / IDS, encoded.ids)
    return {"documents": float(len(encoded))}


def _build_parts(
    device: torch.device, rank: int, processes: int, *, index: Sharded, encoding: Path, folder: Path, machine: Machine
) -> None:
    """Build the parts of one process."""
    index.build_on(device)
    build = partial(index.build, rank=rank, processes=processes)
    _build(build, Encoding(encoding), folder, machine, rank=rank, processes=processes)


def _build(
    build: Callable[..., None],
    encoding: Encoding,
    folder: Path,
    machine: Machine,
    *,
    rank: int = 0,
    processes: int = 1,
) -> None:
    with tqdm(
        total=len(encoding) // processes,
        unit=" documents",
        desc="index" if processes == 1 else f"index (one of {processes} processes)",
        disable=not machine.progress or rank > 0,
    ) as progress:
        build(encoding, folder, progress.update)


def check_engine(index: Index, representation: Representation) -> None:
    """Refuse an engine that takes other vectors than a model makes."""
    if index.takes != representation:
        raise UserError(
            f"the model makes {_WORDS[representation]} and {type(index).__name__} takes {_WORDS[index.takes]}; "
            f"index={_OPTIONS[representation]} is an exact engine for them"
        )


_WORDS: dict[Representation, str] = {
    "dense": "dense vectors",
    "sparse": "sparse vectors",
    "tokens": "vectors for each token",
}

_OPTIONS: dict[Representation, str] = {"dense": "faiss_flat", "sparse": "sparse", "tokens": "maxsim"}
