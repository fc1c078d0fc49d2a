"""Reads the file that wandb writes in offline mode: LevelDB's log format with a record of wandb in each entry."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

#: The bytes before the first block's first entry, of a block, and of an entry's header.
FILE_HEADER, BLOCK, ENTRY_HEADER = 7, 2**15, 7

#: Seconds until a finished run must be on the disk.
PATIENCE = 60.0

#: The types of an entry: whole, or the last part of one.
WHOLE, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file."""
    data, position, parts = path.read_bytes(), FILE_HEADER, b""
    while position + ENTRY_HEADER <= len(data):
        if BLOCK - position % BLOCK < ENTRY_HEADER:  # the rest of a block has no room for a header
            position += BLOCK - position % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + ENTRY_HEADER])
        if position + ENTRY_HEADER + length > len(data):
            return  # of a run that was killed while it wrote
        parts += data[position + ENTRY_HEADER : position + ENTRY_HEADER + length]
        position += ENTRY_HEADER + length
        if kind in (WHOLE, LAST):
            record: Any = vars(wandb_internal_pb2)["Record"]()  # its types depend on the version of protobuf
            record.ParseFromString(parts)
            parts = b""
            yield record


def run_of(folder: Path) -> dict[str, Any]:
    """What the only offline run of a folder says: the run, its history, summary, artifacts and exit code."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    _wait_for_end(path)
    return _content(path)


def runs_of(folder: Path, *, killed: int = 0) -> list[dict[str, Any]]:
    """The same of every offline run below a folder, in the order in which they began; the first ones were killed."""
    paths = sorted(folder.rglob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name)
    for path in paths[killed:]:
        _wait_for_end(path)
    return [_content(path) for path in paths]


def _wait_for_end(path: Path) -> None:
    waited = 0.0
    while not any(record.WhichOneof("record_type") == "exit" for record in records(path)):
        assert waited < PATIENCE, f"{path} has no end"
        time.sleep(0.1)  # wandb's own process may write the end of the file after finish() has returned
        waited += 0.1


def _content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"history": [], "summary": {}, "made": {}, "used": {}, "config": {}}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= _values(record.run.config.update)
        elif kind == "config":
            found["config"] |= _values(record.config.update)
        elif kind == "history":
            found["history"].append(_values(record.history.item))
        elif kind == "summary":
            found["summary"] |= _values(record.summary.update)
        elif kind == "artifact" and record.artifact.type != "run_table":
            found["used" if record.artifact.use_after_commit else "made"][record.artifact.name] = record.artifact
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
