"""Build an index from an encoding, or from texts for an engine that indexes texts; open an index."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irexp.config.schema import Machine
from irexp.dataset.sources import DocumentSource, open_documents
from irexp.index.ids import IdList
from irexp.index.index import Index, Source
from irexp.index.sharded import Sharded
from irexp.index.shards import EncodedDocuments
from irexp.index.texts import Texts
from irexp.pipeline.component import component
from irexp.pipeline.machine import is_helper, prepare, share_work
from irexp.pipeline.scratch import new_folder, remove_with
from irexp.progress import progress
from irexp.types import EXACT, Representation, UserError, engine_fault

if TYPE_CHECKING:
    import torch

#: The prefix of the files that hold the document ids of an index, in the order of its rows.
_IDS = "ids"

#: The build settings of the engine, with which alone an index can be opened.
_ENGINE = "engine.json"


@dataclass(frozen=True)
class OpenIndex:
    """An index that is ready to be searched.

    Attributes:
        engine: the loaded engine.
        doc_ids: the document id of each row.
    """

    engine: Index
    doc_ids: Sequence[str]

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.doc_ids)


def build_index(
    source: EncodedDocuments | DocumentSource,
    folder: str | Path | None = None,
    *,
    engine: Index | None = None,
    machine: Machine | None = None,
) -> OpenIndex:
    """Build an index.

    Args:
        source: an encoding; for BM25 the documents, as `open_documents` opens them.
        folder: a new folder for the index; None for a temporary one.
        engine: how vectors are stored and searched, such as `component("index", "plaid")`; None for an exact one.
        machine: where it runs; None for `component("machine")`.

    Raises:
        UserError: if the engine does not take the source's kind of vectors, or cannot be built from it.
    """
    machine = machine or component("machine")
    opened = source if isinstance(source, EncodedDocuments) else Texts(documents := open_documents(source))
    engine = component("index", _exact(opened)) if engine is None else engine  # an engine without documents is falsy
    check_engine(engine, opened.representation)
    if isinstance(opened, EncodedDocuments):
        engine.check(len(opened), opened.dim)
    total = len(opened) if isinstance(opened, EncodedDocuments) else documents.count()
    with new_folder(folder) as place:
        write_index(copy.deepcopy(engine), opened, place, machine=machine, total=total)
        index = open_index(engine, place)
    if folder is None:
        remove_with(index.engine, place)
    return index


def open_index(engine: Index, folder: str | Path) -> OpenIndex:
    """Open an index that `build_index` or stage=index wrote.

    Args:
        engine: an engine with the settings that the index was built with; its `search` settings may differ. It is
            copied, so that it can open other indexes, too.
        folder: the index's folder.

    Raises:
        UserError: if another engine built it, or one with other build settings.
    """
    place = Path(folder)
    _check_built_by(engine, place)
    loaded = copy.deepcopy(engine)
    loaded.load(place)
    ids = IdList([place / _IDS])
    if len(loaded) != len(ids):
        raise UserError(
            f"{place} has {len(ids):,} document ids, and the engine finds {len(loaded):,} documents: open it with the "
            f"settings that it was built with, or build it again if it is damaged"
        )
    return OpenIndex(loaded, ids)


def _check_built_by(engine: Index, folder: Path) -> None:
    """Refuse an engine whose build settings are not those of the index, if the folder holds them."""
    if not (path := folder / _ENGINE).is_file():
        return
    if differences := list(_differences(json.loads(path.read_text(encoding="utf8")), engine.build_settings)):
        raise UserError(
            f"{folder} was built with other settings: {', '.join(differences)}; open it with the settings that it was "
            f"built with (those of search may differ), or build it again"
        )


def _differences(built: Mapping[str, Any], given: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Which build settings differ; of engines of two classes that alone."""
    shared = [name for name in built if name in given]  # a setting that the other version lacks cannot be compared
    for name in shared if built["class"] == given["class"] else ["class"]:
        if isinstance(built[name], Mapping) and isinstance(given[name], Mapping):
            yield from _differences(built[name], given[name], f"{above}{name}.")
        elif built[name] != given[name]:
            yield f"{above}{name} was {built[name]!r} and is now {given[name]!r}"


def write_index(engine: Index, source: Source, folder: Path, *, machine: Machine, total: int | None) -> int:
    """Build an index in a folder, resuming what a killed process left there.

    Args:
        engine: an engine for the source's kind of vectors, or for texts.
        source: an encoding or texts.
        folder: where the index is written.
        machine: where it runs.
        total: the number of documents, for the progress bar; None if unknown.

    Returns:
        The number of documents; 0 on every node but the first.
    """
    if is_helper(machine) and not isinstance(engine, Sharded):
        return 0
    check_engine(engine, source.representation)
    if isinstance(engine, Sharded) and isinstance(source, EncodedDocuments):
        work = partial(_build_parts, engine=engine, encoding=source.folder, folder=folder, machine=machine)
        share_work(work, machine, prepare(machine))
        if is_helper(machine):
            return 0
    else:
        if isinstance(source, EncodedDocuments):  # nobody who indexes texts waits for torch to be imported
            engine.build_on(prepare(machine))
        _build(engine.build, source, folder, machine, total=total)
    IdList.write(folder / _IDS, source.ids)
    (folder / _ENGINE).write_text(json.dumps(engine.build_settings) + "\n", encoding="utf8")
    return len(source)


def _exact(source: Source) -> str:
    """The option of conf/index that searches a source exactly."""
    compares_equal_words = isinstance(source, EncodedDocuments) and source.has_token_ids
    return "coil" if compares_equal_words else EXACT[source.representation]


def check_engine(engine: Index, representation: Representation) -> None:
    """Refuse an engine that does not take a representation; without a model that is "text"."""
    if fault := engine_fault(type(engine).__name__, engine.takes, representation):
        raise UserError(fault)


def _build_parts(
    device: torch.device, rank: int, processes: int, *, engine: Sharded, encoding: Path, folder: Path, machine: Machine
) -> None:
    """Build one process's parts of a sharded index."""
    engine.build_on(device)
    build, source = partial(engine.build, rank=rank, processes=processes), EncodedDocuments(encoding)
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
    with progress(
        total=total,
        unit=" documents",
        desc="index" if processes == 1 else f"index (one of {processes} processes)",
        shown=machine.progress and rank == 0,
    ) as bar:
        build(source, folder, bar.update)
