"""Memory-mapped document ids: 8.8 million of them would take too much memory as Python strings."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
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
        self._prefixes = list(prefixes)
        self._bytes = [_map(_bytes_path(prefix), np.uint8) for prefix in prefixes]
        self._ends = [_map(_ends_path(prefix), np.int64) for prefix in prefixes]
        self._starts = list(accumulate((len(ends) for ends in self._ends), initial=0))

    def __reduce__(self) -> tuple[type[IdList], tuple[list[Path]]]:
        return IdList, (self._prefixes,)

    @staticmethod
    def write(prefix: Path, ids: Iterable[str]) -> None:
        """Write ids as `prefix.ids` and `prefix.ends`."""
        end = 0
        with open(_bytes_path(prefix), "wb") as texts, open(_ends_path(prefix), "wb") as ends:
            for identifier in ids:
                end += texts.write(identifier.encode())
                ends.write(end.to_bytes(8, "little"))

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if position < 0 or position >= len(self):
            raise IndexError(position)
        part = bisect_right(self._starts, position) - 1
        row, ends = position - self._starts[part], self._ends[part]
        return str(self._bytes[part][ends[row - 1] if row else 0 : ends[row]], "utf8")

    def __iter__(self) -> Iterator[str]:
        for texts, ends in zip(self._bytes, self._ends, strict=True):
            start = 0
            for end in ends.tolist():
                yield str(texts[start:end], "utf8")
                start = end


def _bytes_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.ids")


def _ends_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.ends")


def _map(path: Path, dtype: type[np.generic]) -> memoryview:
    """A view of a memory map, whose items take a tenth of an array's time; an empty file cannot be mapped."""
    return (np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)).data
