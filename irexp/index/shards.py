"""An encoding on disk: document vectors with their ids, in memory-mapped shards.

A shard is a few arrays (`shard-00000.vectors.npy`, …) and ids. Ids are written last and mark the shard as complete.
`irexp.index.parts` saves what is finished of an incomplete one.

Shapes: N documents, H embedding dimensions, T tokens of all documents.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from irexp.index.arrays import Arrays, as_floats, from_arrays, to_arrays
from irexp.index.ids import IdList
from irexp.index.vectors import (
    Representation,
    TokenVectors,
    Vectors,
    count,
    dim,
    first_faulty,
    join,
    representation,
    take,
)
from irexp.types import UserError

SUMMARY = "encoding.json"

#: The file with the documents per shard, until the encoding is complete.
_SHARD_SIZE = "shard-size"

_PART = "part-"

#: Values per batch of `EncodedDocuments.batches`.
_BATCH_VALUES = 2**25


class ShardWriter:
    """Writes an encoding shard by shard, after the complete shards in the folder.

    Attributes:
        finished: the number of documents in the complete shards before the first incomplete one.
        later: the complete shards beyond it, by number, and the documents in each.
    """

    def __init__(self, folder: Path, *, dtype: str, shard_size: int | None = None) -> None:
        """Open or resume a folder; files that do not belong to a complete shard are removed.

        Args:
            folder: the encoding's folder.
            dtype: the precision on disk.
            shard_size: the documents per shard that will be written. If they are as many as before, what a killed
                process did beyond a gap is kept: shards that other processes completed, and parts of shards. None for
                a writer that only writes after the last complete shard.
        """
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._counts: list[int] = []
        self._first: Vectors | None = None
        while (shard := _complete_shard(folder, len(self._counts))) is not None:
            self._counts.append(count(shard))
            self._first = self._first if self._first is not None else take(shard, slice(0, 1))
        self.finished = sum(self._counts)
        size_file = folder / _SHARD_SIZE
        is_same = shard_size is not None and size_file.is_file() and size_file.read_text() == str(shard_size)
        later = complete_shards(folder) if is_same else {}
        self.later = {number: documents for number, documents in later.items() if number > len(self._counts)}
        self._remove_incomplete(keeps_parts=is_same)
        if shard_size is not None and not is_same:  # only after the removal, on which other nodes rely
            _write_shard_size(folder, shard_size)

    def _remove_incomplete(self, *, keeps_parts: bool) -> None:
        kept = [_name(number) for number in (*range(len(self._counts)), *self.later)]
        if keeps_parts:
            kept += [_SHARD_SIZE, _PART]
        for path in self._folder.iterdir():
            if not path.name.startswith(tuple(kept)):
                path.unlink(missing_ok=True)  # another node may remove it too

    @property
    def shards(self) -> int:
        """The number of complete shards."""
        return len(self._counts)

    def write(self, doc_ids: Sequence[str], vectors: Vectors) -> None:
        """Write one shard."""
        write_shard(self._folder, len(self._counts), doc_ids, vectors, dtype=self._dtype)
        self._counts.append(count(vectors))
        self._first = self._first if self._first is not None else take(vectors, slice(0, 1))
        self.finished += count(vectors)

    def close(self) -> None:
        """Write the summary, which marks the encoding as complete."""
        assert self._first is not None
        summary = {
            "representation": representation(self._first),
            "count": self.finished,
            "dim": dim(self._first),
            "dtype": self._dtype.name,
            "shards": self._counts,
        }
        (self._folder / SUMMARY).write_text(json.dumps(summary) + "\n", encoding="utf8")


def complete_shards(folder: Path) -> dict[int, int]:
    """The complete shards in a folder, by number, and the documents in each."""
    numbers = {int(path.name[len("shard-") :].partition(".")[0]) for path in folder.glob("shard-*.ids")}
    shards = {number: _complete_shard(folder, number) for number in sorted(numbers)}
    return {number: count(shard) for number, shard in shards.items() if shard is not None}


def keep_shard_size(folder: Path, shard_size: int) -> bool:
    """Whether shards of so many documents are written in a folder, by several processes; if none are, they are now."""
    size_file = folder / _SHARD_SIZE
    if not size_file.is_file():
        _write_shard_size(folder, shard_size)
    return size_file.read_text() == str(shard_size)


def _write_shard_size(folder: Path, shard_size: int) -> None:
    partial = folder / f"partial-{_SHARD_SIZE}-{os.getpid()}"
    partial.write_text(str(shard_size))
    os.replace(partial, folder / _SHARD_SIZE)


def _complete_shard(folder: Path, number: int) -> Vectors | None:
    """A shard, if all its files exist and agree."""
    prefix = folder / _name(number)
    ends = prefix.with_name(prefix.name + ".ends")
    if not ends.is_file() or not prefix.with_name(prefix.name + ".ids").is_file():
        return None
    try:
        shard = _open_shard(prefix)
    except UserError:
        return None
    return shard if 0 < count(shard) == ends.stat().st_size // 8 else None


def write_shard(
    folder: Path, number: int, doc_ids: Sequence[str], vectors: Vectors, *, dtype: np.dtype[Any] | str
) -> None:
    """Write one shard; shards may be written in any order and by several processes.

    Raises:
        UserError: if a vector has a value that `dtype` cannot hold.
    """
    assert len(doc_ids) == count(vectors) > 0
    with np.errstate(over="ignore"):
        arrays = to_arrays(vectors, np.dtype(dtype))
    stored = as_floats(from_arrays(arrays))
    if (row := first_faulty(stored)) is not None:
        faulty = to_arrays(take(vectors, slice(row, row + 1)), np.dtype(np.float32))
        largest = np.abs(faulty["data" if "data" in faulty else "vectors"]).max()
        raise UserError(
            f"the embedding of document {doc_ids[row]!r} has a value of {largest} that {dtype} cannot hold; "
            f"use encoding.dtype=float32, and if it is nan, check the checkpoint"
        )
    prefix, partial = folder / _name(number), folder / f"partial-{number}"
    for name, array in arrays.items():
        np.save(prefix.with_name(f"{prefix.name}.{name}.npy"), array)
    IdList.write(partial, doc_ids)
    for suffix in (".ends", ".ids"):  # ids last, since they mark the shard as complete
        os.replace(partial.with_name(partial.name + suffix), prefix.with_name(prefix.name + suffix))
    (folder / SUMMARY).unlink(missing_ok=True)


class EncodedDocuments:
    """The document vectors of an encoding, memory-mapped.

    Attributes:
        representation: the kind of vectors.
        dim: the dimensions of a vector.
        dtype: the precision on disk.
        ids: the document ids, in the order of the vectors.
    """

    def __init__(self, folder: Path) -> None:
        """Open an encoding that a `ShardWriter` closed.

        Raises:
            UserError: if a file is missing or has the wrong size.
        """
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf8"))
        self.folder = folder
        self.representation: Representation = summary["representation"]
        self.dim: int = summary["dim"]
        self.dtype: np.dtype[Any] = np.dtype(summary["dtype"])
        self._counts: list[int] = summary["shards"]
        self._first: int = 0
        self._last: int = sum(self._counts)
        prefixes = [folder / _name(number) for number in range(len(self._counts))]
        self._shards = [_open_shard(prefix) for prefix in prefixes]
        if [count(shard) for shard in self._shards] != self._counts:
            raise UserError(
                f"{folder} is damaged: its shards and {SUMMARY} have different numbers of documents; remove the folder "
                f"and run stage=encode again"
            )
        self.ids = IdList(prefixes)

    def part(self, first: int, last: int) -> EncodedDocuments:
        """The documents from `first` up to, but not including, `last`; `ids` are still those of all documents."""
        part = copy.copy(self)
        part._first, part._last = self._first + first, self._first + last
        return part

    @property
    def has_token_ids(self) -> bool:
        """Whether token vectors have ids, so that only vectors of the same token are compared."""
        return isinstance(self._shards[0], TokenVectors) and self._shards[0].token_ids_T is not None

    def __len__(self) -> int:
        return self._last - self._first

    def batches(self, size: int | None = None, *, start: int = 0) -> Iterator[Vectors]:
        """The vectors in fp32, in order from document `start`, in batches of `size` documents.

        Without a size, a batch has about a hundred megabytes.
        """
        before = 0
        for shard in self._shards:
            held = sum(array.size for array in to_arrays(shard, None).values())
            rows = size or max(1, _BATCH_VALUES * count(shard) // max(1, held))
            end = min(count(shard), self._last - before)
            for first in range(max(0, self._first + start - before), end, rows):
                yield as_floats(take(shard, slice(first, min(first + rows, end))))
            before += count(shard)

    def sample(self, size: int, *, seed: int) -> Vectors:
        """The vectors of `size` random documents (or all, if there are fewer) in fp32, in order."""
        row_N = np.arange(len(self))
        if size < len(self):
            row_N = np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False))
        row_N += self._first
        parts, before = [], 0
        for shard in self._shards:
            inside_N = row_N[(row_N >= before) & (row_N < before + count(shard))] - before
            if len(inside_N):
                parts.append(as_floats(take(shard, inside_N)))
            before += count(shard)
        return join(parts)


def part_prefix(folder: Path, number: int) -> Path:
    """The prefix of the parts of a shard that is not complete."""
    return folder / f"{_PART}{number:05}"


def _open_shard(prefix: Path) -> Vectors:
    paths = sorted(prefix.parent.glob(f"{prefix.name}.*.npy"))
    try:
        arrays: Arrays = {path.name.split(".")[1]: np.load(path, mmap_mode="r") for path in paths}
        return from_arrays(arrays)
    except (ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{prefix} is missing or damaged ({error}); remove its folder and run stage=encode again"
        ) from error


def _name(number: int) -> str:
    return f"shard-{number:05}"
