"""The stage that makes an index, from an encoding or, for an engine that reads them, from the texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents
from irexp.index.ids import IdList
from irexp.index.index import Index, Source
from irexp.index.sharded import Sharded
from irexp.index.shards import EncodedDocuments
from irexp.index.texts import Texts
from irexp.stage.machine import is_helper, prepare, share_work
from irexp.types import Representation, UserError, engine_fault

if TYPE_CHECKING:
    import torch

#: The prefix of the files that hold the document ids of an index, in the order of its rows.
IDS = "ids"


def index(
    folder: Path,
    encoding: Path | None,
    *,
    index: Index,
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
    source: Source = Texts(documents) if encoding is None else EncodedDocuments(encoding)
    check_engine(index, source.representation)
    if isinstance(index, Sharded) and encoding is not None:
        work = partial(_build_parts, index=index, encoding=encoding, folder=folder, machine=machine)
        share_work(work, machine, device)
        if is_helper(machine):
            return {}
    else:
        total = documents.count() if encoding is None else len(source)
        index.build_on(device)
        _build(index.build, source, folder, machine, total=total)
    IdList.write(folder / IDS, source.ids)
    return {"documents": float(len(source))}


def _build_parts(
    device: torch.device, rank: int, processes: int, *, index: Sharded, encoding: Path, folder: Path, machine: Machine
) -> None:
    """Build the parts of one process."""
    index.build_on(device)
    build, source = partial(index.build, rank=rank, processes=processes), EncodedDocuments(encoding)
    _build(build, source, folder, machine, total=len(source) // processes, rank=rank, processes=processes)


def _build(
    build: Callable[..., None],
    source: Source,
    folder: Path,
    machine: Machine,
    *,
    total: int | None,
    rank: int = 0,
    processes: int = 1,
) -> None:
    with tqdm(
        total=total,
        unit=" documents",
        desc="index" if processes == 1 else f"index (one of {processes} processes)",
        disable=not machine.progress or rank > 0,
    ) as progress:
        build(source, folder, progress.update)


def check_engine(index: Index, representation: Representation) -> None:
    """Refuse an engine that takes something else than a model makes; without a model there are the texts alone."""
    if fault := engine_fault(type(index).__name__, index.takes, representation):
        raise UserError(fault)
