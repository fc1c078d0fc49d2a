"""One index per part of a collection, built by several processes in parallel, and searched together.

    the best K of all = the best K of the parts' best K

Parts are ranges of consecutive documents that do not depend on the number of processes, so that any number builds the
same index. In search they are spread over the GPUs. The merged results of an exact engine are exact.

Shapes: N documents, K results per query.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.utils import get_class

from irexp.index.index import Index, Rows, Scores, Source
from irexp.index.rescore import merge
from irexp.index.texts import Texts
from irexp.index.vectors import Queries
from irexp.types import UserError

if TYPE_CHECKING:
    import torch

#: The file with the rows of a part.
_ROWS = "rows.json"


class Sharded(Index):
    """Several indexes of the same engine, over consecutive documents."""

    def __init__(self, engine: Index, *, parts: int = 4) -> None:
        """An empty index.

        Args:
            engine: the index of each part.
            parts: the number of parts.
        """
        if parts < 1:
            raise UserError(f"index.parts={parts}: it must be at least 1")
        self.takes = engine.takes
        self._engines = [copy.deepcopy(engine) for _ in range(parts)]

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        engine: type[Index] = get_class(settings["engine"]["_target_"])
        return engine.is_exact(settings["engine"])

    def check(self, count: int | None, dim: int) -> None:
        """Check the engine for the smallest part."""
        parts = len(self._engines)
        if count is not None and count < parts:
            raise UserError(f"index.parts={parts}: the collection has only {count} documents; use fewer parts")
        self._engines[0].check(None if count is None else count // parts, dim)

    def build_on(self, device: torch.device) -> None:
        """Use the device of this process for its parts."""
        for engine in self._engines:
            engine.build_on(device)

    def build(
        self,
        source: Source,
        folder: Path,
        advance: Callable[[int], object] = abs,
        *,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Build the parts that a killed process has not finished.

        Args:
            source: the encoded documents.
            folder: an existing folder for the index.
            advance: called with the number of documents added.
            rank: of this process.
            processes: the number of processes; each builds every `processes`-th part, starting at `rank`.
        """
        if isinstance(source, Texts):
            raise UserError(
                "index=sharded does not support BM25, whose weights depend on all documents; use index=bm25"
            )
        self.check(len(source), source.dim)
        ends = [len(source) * (number + 1) // len(self._engines) for number in range(len(self._engines))]
        for number in range(rank, len(self._engines), processes):
            rows = [ends[number - 1] if number else 0, ends[number]]
            documents = source.part(*rows)
            partial = folder / f"partial-{number:03}"
            for started in (_part(folder, number), partial):
                if started.is_dir() and _rows_of(started) != rows:  # of a collection of another size
                    shutil.rmtree(started)
            if _part(folder, number).is_dir():
                advance(len(documents))
                continue
            partial.mkdir(exist_ok=True)
            if _rows_of(partial) is None:
                (partial / _ROWS).write_text(json.dumps(rows) + "\n", encoding="utf8")
            self._engines[number].build(documents, partial, advance)
            partial.rename(_part(folder, number))

    def load(self, folder: Path) -> None:
        """Load all parts."""
        for number, engine in enumerate(self._engines):
            if not _part(folder, number).is_dir():
                raise UserError(f"{_part(folder, number)} does not exist: this index was not built by index=sharded")
            engine.load(_part(folder, number))

    def to(self, device: torch.device) -> None:
        """Spread the parts over the GPUs, if there are any."""
        import torch

        devices = torch.cuda.device_count() if device.type == "cuda" else 1
        for number, engine in enumerate(self._engines):
            engine.to(torch.device("cuda", number % devices) if device.type == "cuda" else device)

    def __len__(self) -> int:
        return sum(len(engine) for engine in self._engines)

    @property
    def most_results(self) -> int:
        """That of the parts that do not return all of their documents."""
        return min((each.most_results for each in self._engines if each.most_results < len(each)), default=len(self))

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among the results of all parts."""
        parts, first = [], 0
        for engine in self._engines:
            score_BK, row_BK = engine.search(queries, depth)
            parts.append((score_BK, np.where(row_BK < 0, -1, row_BK + first)))
            first += len(engine)
        return merge(parts, min(depth, first))


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:03}"


def _rows_of(part: Path) -> object:
    """The first row of a part and the row after its last; None if a killed process did not write them."""
    path = part / _ROWS
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else None
