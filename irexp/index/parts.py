"""The vectors of texts that are still being encoded, saved every half minute, so that a killed process resumes there.

A part is one file: vectors in fp32 and the rows of their texts. What is computed in one go, and by a process that was
killed and resumed, is equal to the last bit, because batches are made from the shortest text to the longest: what is
left after a batch is cut into the same batches as before.
"""

from __future__ import annotations

import logging
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from irexp.index.arrays import from_arrays, to_arrays
from irexp.index.vectors import Vectors, join

log = logging.getLogger(__name__)

#: The seconds of work that a killed process loses at most, apart from one batch and the time to write a file.
SAVE_EVERY = 30.0


class Parts:
    """The finished vectors of a list of texts.

    Scores of pairs are kept in the same way, as an array with one number per pair.
    """

    def __init__(self, prefix: Path | None = None, *, advance: Callable[[Sequence[int]], object] = len) -> None:
        """Keep parts in the files `<prefix>-00000.npz`, `<prefix>-00001.npz` and so on.

        Args:
            prefix: different for each list of texts; None to save nothing.
            advance: called with the rows of each finished batch.
        """
        self._prefix, self._advance = prefix, advance
        self._vectors: list[Vectors] = []
        self._rows: list[int] = []
        self._saved = time.monotonic()

    def saved(self) -> Iterator[tuple[list[int], Vectors]]:
        """The rows and vectors of each part that a killed process saved."""
        for path in self._files():
            try:
                with np.load(path) as arrays:
                    found = {name: arrays[name] for name in arrays.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                log.warning("%s cannot be read (%s): its vectors are computed again", path, error)
                path.unlink()
                continue
            rows = found.pop("rows").tolist()
            self._advance(rows)
            yield rows, from_arrays(found)

    def add(self, rows: Sequence[int], vectors: Vectors) -> None:
        """Take a finished batch; it is saved with others, half a minute after the last part."""
        self._advance(rows)
        if self._prefix is None:
            return
        self._rows += rows
        self._vectors.append(vectors)
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self._save(self._prefix)

    def remove(self) -> None:
        """Remove the parts, once all vectors are stored elsewhere."""
        for path in self._files():
            path.unlink()

    def _files(self) -> list[Path]:
        if self._prefix is None:
            return []
        return sorted(self._prefix.parent.glob(f"{self._prefix.name}-*.npz"))

    def _save(self, prefix: Path) -> None:
        prefix.parent.mkdir(exist_ok=True)
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._files()]
        path = prefix.with_name(f"{prefix.name}-{max(numbers, default=-1) + 1:05}.npz")
        partial = path.with_suffix(".partial")
        arrays: dict[str, Any] = {"rows": np.array(self._rows, np.int64), **to_arrays(join(self._vectors), None)}
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
        self._rows, self._vectors, self._saved = [], [], time.monotonic()
