"""Arrays that grow on disk row by row, and are truncated to the last complete batch after a kill.

Each is a raw file, so that building an index takes the same memory for a collection of any size.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irexp.types import UserError

_SUMMARY = "arrays.json"


class GrowingArrays:
    """The arrays of one folder, written together.

    Attributes:
        finished: the number of documents in complete batches.
    """

    def __init__(self, folder: Path) -> None:
        """Open or resume a folder; an incomplete batch in it is removed."""
        self._folder = folder
        self._summary: dict[str, Any] = {"documents": 0, "arrays": {}}
        if (folder / _SUMMARY).is_file():
            self._summary = json.loads((folder / _SUMMARY).read_text(encoding="utf8"))
            for name, array in self._summary["arrays"].items():
                if not (path := _path(folder, name)).is_file() or path.stat().st_size < _bytes(array):
                    raise UserError(f"{path} is damaged; remove {folder} and run the stage again")
                os.truncate(path, _bytes(array))

    @property
    def finished(self) -> int:
        """The number of documents in complete batches."""
        return int(self._summary["documents"])

    def reserve(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """A memory-mapped array of known size, to be filled in any order; recorded by the next `append`.

        Raises:
            OSError: if the disk is full; in a memory map that would crash the process.
        """
        self._summary["arrays"][name] = array = {"dtype": dtype.str, "shape": list(shape)}
        with _path(self._folder, name).open("wb") as file:
            if not _bytes(array):
                return np.empty(shape, dtype)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, _bytes(array))
            file.truncate(_bytes(array))
        return np.asarray(np.memmap(_path(self._folder, name), dtype, "r+", shape=shape))

    def append(self, arrays: Mapping[str, NDArray[Any]], *, documents: int) -> None:
        """Add rows to each array; after a kill, all arrays have the batch or none has."""
        for name, array in arrays.items():
            known = self._summary["arrays"].setdefault(name, {"dtype": array.dtype.str, "shape": [0, *array.shape[1:]]})
            assert known["dtype"] == array.dtype.str and known["shape"][1:] == list(array.shape[1:]), name
            with _path(self._folder, name).open("ab" if known["shape"][0] else "wb") as file:
                file.write(np.ascontiguousarray(array).tobytes())
            known["shape"][0] += len(array)
        self._summary["documents"] += documents
        partial = self._folder / f"{_SUMMARY}.partial"
        partial.write_text(json.dumps(self._summary) + "\n", encoding="utf8")
        os.replace(partial, self._folder / _SUMMARY)


def clear_arrays(folder: Path) -> None:
    """Remove the arrays of a folder, and no other files."""
    (folder / _SUMMARY).unlink(missing_ok=True)
    for path in folder.glob("*.bin"):
        path.unlink()


def remove_arrays(folder: Path) -> None:
    """Remove a folder of arrays; after a kill it is empty rather than damaged."""
    if folder.is_dir():
        (folder / _SUMMARY).unlink(missing_ok=True)
        shutil.rmtree(folder)


def count_documents(folder: Path) -> int:
    """The number of documents in the complete batches of a folder of arrays; none without a batch."""
    path = folder / _SUMMARY
    return int(json.loads(path.read_text(encoding="utf8"))["documents"]) if path.is_file() else 0


def read_arrays(folder: Path, made_by: str = "this engine") -> dict[str, NDArray[Any]]:
    """The arrays of a folder, memory-mapped.

    Raises:
        UserError: if there are none, or a file has the wrong size.
    """
    if not (folder / _SUMMARY).is_file():
        raise UserError(f"{folder / _SUMMARY} does not exist: this index was not built by {made_by}")
    arrays: dict[str, NDArray[Any]] = {}
    for name, array in json.loads((folder / _SUMMARY).read_text(encoding="utf8"))["arrays"].items():
        path = _path(folder, name)
        if not path.is_file() or path.stat().st_size != _bytes(array):
            raise UserError(f"{path} is missing or damaged; remove {folder} and run stage=index again")
        shape, dtype = tuple(array["shape"]), np.dtype(array["dtype"])
        mapped = np.memmap(path, dtype, "r", shape=shape) if _bytes(array) else np.empty(shape, dtype)
        arrays[name] = np.asarray(mapped)  # slicing a plain array over the map takes a tenth of the time
    return arrays


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.bin"


def _bytes(array: dict[str, Any]) -> int:
    return math.prod(map(int, array["shape"])) * int(np.dtype(array["dtype"]).itemsize)
