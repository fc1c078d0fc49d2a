"""The folder of artifacts: each is complete or absent, and says what made it.

A folder is filled under `.partial-…`, which a later process takes up where a killed one stopped, and renamed when its
manifest is written. A lock per artifact lets one process make it while others wait and then find it done.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irexp.artifact.content import content_digest
from irexp.artifact.identity import Identity
from irexp.types import UserError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"

#: The size in bytes up to which a file's checksum is compared whenever its artifact is used; `stage=verify` reads all.
_READ = 2**26

#: Seconds between two looks at what another node does, and how long it may take to begin.
_POLL = 0.5
_PATIENCE = 600.0


class MissingArtifactError(UserError):
    """An artifact that a stage needs is not there."""


@dataclass
class Making:
    """An artifact on its way: the folder to fill, and what the manifest will say beside its ingredients."""

    folder: Path
    provenance: dict[str, Any] = field(default_factory=dict)


class Store:
    """The artifacts below one root folder."""

    def __init__(self, root: Path) -> None:
        """A store; the folder is made when it is first written to."""
        self.root = root

    def folder(self, identity: Identity) -> Path:
        """Where the artifact lies once it is complete."""
        return self.root / identity.name

    def has(self, identity: Identity) -> bool:
        """Whether the artifact is there, made from exactly these ingredients.

        Raises:
            UserError: if a file of it was changed, truncated or removed, or another artifact has the same digest.
        """
        folder = self._find(identity)
        if folder is None:
            return False
        manifest = read_manifest(folder)
        if manifest["made_from"] != identity.made_from:
            raise UserError(
                f"{folder} was made from something else than its name says (its digest is the same by accident, or its "
                f"manifest was edited). Move that folder away and run the stage again."
            )
        _check_files(folder, manifest)
        return True

    def open(self, identity: Identity) -> Path:
        """The folder of an artifact that `has` found."""
        folder = self._find(identity)
        assert folder is not None, identity.name
        return folder

    def _find(self, identity: Identity) -> Path | None:
        """By digest: the part of a folder's name that is for people plays no role."""
        kind, _, name = identity.name.partition("/")
        return next((path for path in self.all(kind) if path.name.endswith(f"-{name[-8:]}")), None)

    @contextmanager
    def making(self, identity: Identity, *, resumes: bool) -> Iterator[Making | None]:
        """Fill an artifact's folder; it appears under its name when the block ends without an error.

        Args:
            identity: what is made.
            resumes: whether to hand over what a killed process left, rather than an empty folder.

        Yields:
            The folder to fill, or None if another process made the artifact while this one waited.
        """
        final = self.folder(identity)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = self._partial(identity)
        with _lock(self._lock(identity), identity.name):
            if self.has(identity):
                yield None
                return
            if partial.exists() and not resumes:
                shutil.rmtree(partial)
            partial.mkdir(exist_ok=True)
            making = Making(partial)
            yield making
            write_manifest(partial, identity, making.provenance)
            os.replace(partial, final)

    def started(self, identity: Identity) -> Path | None:
        """Wait until another node makes an artifact: the folder that it fills, or None if it is complete.

        Raises:
            MissingArtifactError: if none begins within some minutes.
        """
        partial = self._partial(identity)
        waited = 0.0
        while not self.has(identity):
            if partial.is_dir() and self._is_locked(identity):
                return partial
            if waited > _PATIENCE:
                raise MissingArtifactError(
                    f"the first node does not make {identity.name} in {self.root.resolve()}; look at what it printed, "
                    f"and whether all nodes see the same folder"
                )
            time.sleep(_POLL)
            waited += _POLL
        return None

    def finished(self, identity: Identity) -> Path:
        """Wait until another node has made an artifact: its folder."""
        while self.started(identity) is not None:
            time.sleep(_POLL)
        return self.open(identity)

    def _is_locked(self, identity: Identity) -> bool:
        path = self._lock(identity)
        if not path.is_file():
            return False
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _partial(self, identity: Identity) -> Path:
        final = self.folder(identity)
        return final.with_name(f".partial-{final.name}")

    def _lock(self, identity: Identity) -> Path:
        final = self.folder(identity)
        return final.with_name(f".lock-{final.name}")

    def all(self, kind: str) -> list[Path]:
        """Every complete artifact of a kind, by name."""
        return sorted(path.parent for path in (self.root / kind).glob(f"*/{MANIFEST}") if path.parent.name[0] != ".")

    def nearest(self, identity: Identity) -> tuple[Path, list[str]] | None:
        """The artifact of this kind that differs in the fewest values, and those values."""
        wanted = flatten(identity.lineage)
        candidates = [
            (differences(wanted, flatten(read_manifest(path)["lineage"])), path) for path in self.all(identity.kind)
        ]
        if not candidates:
            return None
        found, path = min(candidates, key=lambda candidate: (len(candidate[0]), candidate[1].name))
        return path, found


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete artifact."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
    return manifest


def write_manifest(folder: Path, identity: Identity, provenance: dict[str, Any]) -> None:
    """Write what an artifact is made from, what made it, and the size and digest of each file."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": content_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, f".{MANIFEST}")
    }
    manifest = {
        "kind": identity.kind,
        "name": identity.name,
        "made_from": identity.made_from,
        "lineage": identity.lineage,
        "files": files,
        "provenance": provenance,
    }
    partial = folder / f".{MANIFEST}"
    partial.write_text(json.dumps(manifest, indent=1, default=str) + "\n", encoding="utf8")
    os.replace(partial, folder / MANIFEST)


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """A nested lineage as {dotted path: value}; the artifact levels are left out of the paths."""
    if not isinstance(value, dict):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        prefix = "" if key.startswith("artifact.") and isinstance(inner, dict) else f"{path}.{key}".lstrip(".")
        flat |= flatten(inner, prefix)
    return flat


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The values in which two flat lineages differ, one line each."""
    return [
        f"{key}: {found.get(key, 'unset')} there, {wanted.get(key, 'unset')} here"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]


def damage(folder: Path, manifest: dict[str, Any], *, up_to: float = math.inf) -> list[str]:
    """The files of an artifact that are not as they were written, each with what is wrong.

    Args:
        folder: the artifact.
        manifest: its manifest.
        up_to: the size in bytes of the files that are read and compared with their checksum; of others the size is.
    """
    found = []
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is not there")
        elif (size := path.stat().st_size) != entry["bytes"]:
            found.append(f"{path} has {size:,} bytes; the manifest says {entry['bytes']:,} bytes")
        elif size <= up_to and content_digest(path) != entry["sha256"]:
            found.append(f"{path} has another content than when it was written: its checksum differs")
    return found


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    if found := damage(folder, manifest, up_to=_READ):
        raise UserError(f"{found[0]}. The artifact is damaged: remove {folder} and run its stage again.")


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    """Hold a file lock, which ends with the process however that ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is making %s: waiting for it", name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
