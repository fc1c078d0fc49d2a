"""The manifest of an artifact: what it is made from, what made it, and the checksum of each file.

SHA-256 reads 1.2 GB/s on one core of a processor with instructions for it, as most since 2019 have, so that everything
a stage opens is compared with its checksum first, the files of one artifact in parallel.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irexp.artifact.content import content_digest, digest_of
from irexp.artifact.hardware import usable_processors
from irexp.artifact.ir_metadata import SUFFIX
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.artifact.identity import Identity

MANIFEST = "manifest.json"

#: The size in bytes up to which a file is compared by checksum even if it is only listed as done, and not opened.
GLANCE = 2**26

#: The most files that are read at the same time.
_THREADS = 8


class DamagedArtifactError(UserError):
    """An artifact has changed since it was written."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete artifact.

    Raises:
        DamagedArtifactError: if it cannot be read, or was changed since it was written.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf8"))
        if not _is_manifest(manifest):
            raise ValueError("it is not a manifest")
        if manifest.get("checksum", (found := _checksum(manifest))) != found:  # those of old have no checksum
            raise ValueError("its content has changed since it was written")
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedArtifactError(f"{path} cannot be read ({error}). {_remedy(folder)}") from error
    return dict(manifest)


def write_manifest(folder: Path, identity: Identity, provenance: dict[str, Any]) -> None:
    """Write what an artifact is made from, what made it, the size and digest of each file, and a checksum of that."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest}
        for name, digest in _digests(folder, sorted(_files(folder))).items()
    }
    manifest = {
        "kind": identity.kind,
        "name": identity.name,
        "made_from": identity.made_from,
        "lineage": identity.lineage,
        "files": files,
        "provenance": provenance,
    }
    plain = json.loads(json.dumps(manifest, default=str))
    partial = folder / f".{MANIFEST}"
    partial.write_text(json.dumps({**plain, "checksum": _checksum(plain)}, indent=1) + "\n", encoding="utf8")
    os.replace(partial, folder / MANIFEST)


def damage(folder: Path, manifest: dict[str, Any], *, up_to: float = math.inf) -> list[str]:
    """The damaged files of an artifact: one message for each.

    Args:
        folder: the artifact.
        manifest: its manifest.
        up_to: files up to this many bytes are compared by checksum, larger ones by size alone.
    """
    entries = manifest["files"]
    found, same_size = [], []
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif (size := path.stat().st_size) != entry["bytes"]:
            found.append(f"{path} has {size:,} bytes; the manifest says {entry['bytes']:,} bytes")
        elif size <= up_to:
            same_size.append(name)
    found += [
        f"{folder / name} has changed since it was written: its checksum differs"
        for name, digest in _digests(folder, same_size).items()
        if digest != entries[name]["sha256"]
    ]
    added = sorted(set(_files(folder)) - entries.keys())
    return found + [f"{folder / name} was added since the artifact was written" for name in added]


def check(
    folder: Path, manifest: dict[str, Any], *, made_from: dict[str, Any] | None, digest: str | None, up_to: float
) -> None:
    """Compare an artifact with its manifest, and the manifest with what the artifact should be made from.

    Args:
        folder: the artifact.
        manifest: its manifest.
        made_from: what it should be made from; None if only its digest is known.
        digest: the digest of what it should be made from, beside that in the manifest's name; None if it is not known.
        up_to: files up to this many bytes are compared by checksum, larger ones by size alone.

    Raises:
        DamagedArtifactError: naming the first damaged file, or the manifest.
    """
    found = manifest["made_from"]
    digests = {digest_of(found), digest or digest_of(found), str(manifest.get("name"))[-8:]}
    if found != made_from if made_from is not None else len(digests) > 1:
        raise DamagedArtifactError(
            f"{folder} was not made from what its name says: another artifact has the same digest, or the manifest was "
            f"edited. Move that folder away and run the stage again."
        )
    if faults := damage(folder, manifest, up_to=up_to):
        raise DamagedArtifactError(f"{faults[0]}. {_remedy(folder)}")


def _remedy(folder: Path) -> str:
    return f"The artifact is damaged: remove {folder} and run its stage again."


def _is_manifest(value: object) -> bool:
    """Whether a value has the parts of a manifest, and these have their types."""
    if not isinstance(value, dict):
        return False
    parts = [value.get(key) for key in ("made_from", "lineage", "files", "provenance")]
    return all(isinstance(part, dict) for part in parts) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in value["files"].values()
    )


def _checksum(manifest: dict[str, Any]) -> str:
    """The SHA-256 of everything else in a manifest, whatever the order and the layout."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """The names of all files in a folder that stages open, at any depth.

    Not those of manifests and what repeats them for other programs, nor hidden ones.
    """
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        is_content = path.name != MANIFEST and not path.name.endswith(SUFFIX)
        if path.is_file() and is_content and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix()


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    """The digest of each file; hashing runs in parallel, since it holds no lock of the interpreter."""
    with ThreadPoolExecutor(min(_THREADS, usable_processors())) as pool:
        return dict(zip(names, pool.map(content_digest, [folder / name for name in names]), strict=True))
