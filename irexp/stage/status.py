"""The stage that lists all artifacts with their size and age, and what is made from each."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from irexp.artifact.lineage import Lineage
from irexp.artifact.store import Store
from irexp.types import UserError

log = logging.getLogger(__name__)

_HEAD = ("artifact", "size", "age", "used by")


def status(output: Path, *, artifacts: str) -> list[tuple[str, ...]]:
    """List the artifacts below `artifacts`, unfinished ones, too; nothing is written into `output`.

    Returns:
        A row per artifact: its name, size, age, and the artifacts that are made from it.
    """
    store = Store(Path(artifacts))
    if not store.root.is_dir():
        raise UserError(f"paths.artifacts={artifacts}: there is no such folder, so nothing was made yet")
    lineage = Lineage(store)
    rows: list[tuple[str, ...]] = [
        (name, size(bytes_of(manifest)), _age(manifest), _used_by(lineage.users[name]))
        for name, manifest in lineage.manifests.items()
    ]
    unfinished = [(name, size(bytes_in(folder)), "", "(unfinished)") for name, folder in unfinished_in(store)]
    total = f"{len(rows)} artifacts, {size(sum(bytes_of(manifest) for manifest in lineage.manifests.values()))}"
    total += f", and {len(unfinished)} unfinished" if unfinished else ""
    rows += unfinished
    log.info("status: %s\n\n%s\n\n%s\n", store.root.resolve(), columns(rows), total)
    return rows


def columns(rows: list[tuple[str, ...]]) -> str:
    """Align rows under the head, each column as wide as its longest cell."""
    widths = [max(len(row[column]) for row in (_HEAD, *rows)) for column in range(len(_HEAD) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in (_HEAD, *rows)
    )


def bytes_of(manifest: dict[str, Any]) -> int:
    """The size of an artifact's files in bytes, from its manifest."""
    return sum(int(entry["bytes"]) for entry in manifest["files"].values())


def unfinished_in(store: Store) -> list[tuple[str, Path]]:
    """The names and folders of artifacts that a process began and none has completed."""
    folders = sorted(store.root.glob("*/.partial-*"))
    return [(f"{folder.parent.name}/{folder.name.removeprefix('.partial-')}", folder) for folder in folders]


def bytes_in(folder: Path) -> int:
    """The size of a folder's files in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size(count: float) -> str:
    """Format a number of bytes.

    >>> size(999), size(2_500_000)
    ('999 B', '2.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _age(manifest: dict[str, Any]) -> str:
    finished = manifest["provenance"].get("finished")
    if finished is None:
        return ""
    seconds = time.time() - datetime.fromisoformat(finished).timestamp()
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"


def _used_by(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
