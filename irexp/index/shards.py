"""An encoding on disk: document vectors with their ids, in memory-mapped shards.

A shard exists when its ids do: vectors are written first, under a temporary name, and ids last, so that a killed
process loses at most the shard on its way.

Shapes: N documents, H embedding dimensions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irexp.index.ids import IdList
from irexp.index.index import Vectors
from irexp.types import UserError

SUMMARY = "encoding.json"


class ShardWriter:
    """Writes an encoding shard by shard, behind the complete shards that are there.

    Attributes:
        finished: the documents in complete shards.
    """

    def __init__(self, folder: Path, *, dtype: str) -> None:
        """Take up a folder; whatever was half-written in it is removed."""
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._counts: list[int] = []
        self._dim: int | None = None
        while (shard := self._complete_shard(len(self._counts))) is not None:
            self._counts.append(shard[0])
            self._dim = shard[1]
        for path in folder.iterdir():
            if not any(path.name.startswith(_name(number)) for number in range(len(self._counts))):
                path.unlink()
        self.finished = sum(self._counts)

    def write(self, doc_ids: Sequence[str], vector_NH: Vectors) -> None:
        """Write one shard."""
        assert len(doc_ids) == len(vector_NH) > 0
        with np.errstate(over="ignore"):
            stored_NH = vector_NH.astype(self._dtype)
        faulty_N = ~np.isfinite(stored_NH).all(axis=1)
        if faulty_N.any():
            row = int(faulty_N.argmax())
            largest = np.abs(vector_NH[row]).max()
            raise UserError(
                f"the embedding of document {doc_ids[row]!r} has a value of {largest} that {self._dtype} cannot hold; "
                f"use encoding.dtype=float32, and if it is nan, look at the checkpoint"
            )
        prefix = self._folder / _name(len(self._counts))
        temporary = prefix.with_suffix(".partial")
        with open(temporary, "wb") as file:
            stored_NH.tofile(file)
        os.replace(temporary, _vectors_path(prefix))
        IdList.write(self._folder / "partial", doc_ids)
        for suffix in (".ends", ".ids"):  # the ids last
            os.replace(self._folder / f"partial{suffix}", prefix.with_name(prefix.name + suffix))
        (self._folder / SUMMARY).unlink(missing_ok=True)
        self._counts.append(len(doc_ids))
        self._dim = vector_NH.shape[1]
        self.finished += len(doc_ids)

    def close(self) -> None:
        """Write the summary, which makes the shards an encoding."""
        summary = {"count": self.finished, "dim": self._dim, "dtype": self._dtype.name, "shards": self._counts}
        (self._folder / SUMMARY).write_text(json.dumps(summary) + "\n", encoding="utf8")

    def _complete_shard(self, number: int) -> tuple[int, int] | None:
        """Documents and dimensions of a shard, if all its files are there and agree."""
        prefix = self._folder / _name(number)
        paths = [_vectors_path(prefix), prefix.with_name(prefix.name + ".ends"), prefix.with_name(prefix.name + ".ids")]
        if not all(path.is_file() for path in paths):
            return None
        count = paths[1].stat().st_size // 8
        values = paths[0].stat().st_size // self._dtype.itemsize
        if count == 0 or values % count:
            return None
        return count, values // count


class Encoding:
    """Reads an encoding; vectors stay on disk until they are asked for."""

    def __init__(self, folder: Path) -> None:
        """An encoding that a `ShardWriter` closed.

        Raises:
            UserError: if a file is missing or has the wrong size.
        """
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf8"))
        self.dim: int = summary["dim"]
        self._counts: list[int] = summary["shards"]
        prefixes = [folder / _name(number) for number in range(len(self._counts))]
        dtype = np.dtype(summary["dtype"])
        self._shards = [
            _open_shard(prefix, dtype, count, self.dim) for prefix, count in zip(prefixes, self._counts, strict=True)
        ]
        self.ids = IdList(prefixes)

    def __len__(self) -> int:
        return sum(self._counts)

    def batches(self, size: int = 65_536) -> Iterator[Vectors]:
        """The vectors in order, in fp32, at most `size` at once."""
        for shard_NH in self._shards:
            for start in range(0, len(shard_NH), size):
                yield np.asarray(shard_NH[start : start + size], dtype=np.float32)


def _open_shard(prefix: Path, dtype: np.dtype[Any], count: int, dim: int) -> NDArray[Any]:
    path = _vectors_path(prefix)
    wanted = count * dim * dtype.itemsize
    if not path.is_file() or path.stat().st_size != wanted:
        raise UserError(
            f"{path} is missing or damaged: {wanted:,} bytes are needed; remove its folder and encode again"
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(count, dim))


def _name(number: int) -> str:
    return f"shard-{number:05}"


def _vectors_path(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".vectors")
