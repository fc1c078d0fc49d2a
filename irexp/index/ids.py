"""Memory-mapped document ids: 8.8 million of them would take too much memory as Python strings."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class IdList(Sequence[str]):
    """Ids in two files per part: their concatenated UTF-8 bytes, and the end of each."""

    def __init__(self, prefixes: Sequence[Path]) -> None:
        """Map the ids of one or more parts.

        Args:
            prefixes: paths without `.ids` and `.ends`, as passed to `write`, in order.
        """
        self._bytes = [_map(_bytes_path(prefix), np.uint8) for prefix in prefixes]
        self._ends = [_map(_ends_path(prefix), np.int64) for prefix in prefixes]
        self._starts = np.cumsum([0, *(len(ends) for ends in self._ends)])

    @staticmethod
    def write(prefix: Path, ids: Iterable[str]) -> None:
        """Write ids as `prefix.ids` and `prefix.ends`."""
        end = 0
        with open(_bytes_path(prefix), "wb") as texts, open(_ends_path(prefix), "wb") as ends:
            for identifier in ids:
                end += texts.write(identifier.encode())
                ends.write(end.to_bytes(8, "little"))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if position < 0 or position >= len(self):
            raise IndexError(position)
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        row = position - int(self._starts[part])
        start = int(self._ends[part][row - 1]) if row else 0
        return self._bytes[part][start : int(self._ends[part][row])].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        for texts, ends in zip(self._bytes, self._ends, strict=True):
            start = 0
            for end in ends.tolist():
                yield texts[start:end].tobytes().decode()
                start = end


def _bytes_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.ids")


def _ends_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.ends")


def _map(path: Path, dtype: type[np.generic]) -> np.ndarray:
    """A memory map; an empty array for an empty file, which cannot be mapped."""
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
