"""The manifest of an artifact: what it is made from, what made it, and the checksum of each file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from irexp.artifact.content import content_digest
from irexp.artifact.identity import digest_of
from irexp.types import UserError

MANIFEST = "manifest.json"

#: The size in bytes up to which a file's checksum is compared whenever its artifact is used; `stage=verify` reads all.
_CHECKED_BYTES = 2**26


class DamagedArtifactError(UserError):
    """An artifact has changed since it was written."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete artifact.

    Raises:
        DamagedArtifactError: if it cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(manifest, dict) or not {"made_from", "lineage", "files", "provenance"} <= manifest.keys():
            raise ValueError("it is not a manifest")
    except (OSError, ValueError) as error:
        raise DamagedArtifactError(
            f"{path} cannot be read ({error}). The artifact is damaged: remove {folder} and run its stage again."
        ) from error
    return manifest


def damage(folder: Path, manifest: dict[str, Any], *, up_to: float = math.inf) -> list[str]:
    """The damaged files of an artifact: one message for each.

    Args:
        folder: the artifact.
        manifest: its manifest.
        up_to: files up to this many bytes are compared by checksum, larger ones by size alone.
    """
    found = []
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif (size := path.stat().st_size) != entry["bytes"]:
            found.append(f"{path} has {size:,} bytes; the manifest says {entry['bytes']:,} bytes")
        elif size <= up_to and content_digest(path) != entry["sha256"]:
            found.append(f"{path} has changed since it was written: its checksum differs")
    return found


def check(folder: Path, manifest: dict[str, Any], made_from: dict[str, Any] | None) -> None:
    """Compare an artifact with its manifest, and the manifest with `made_from`, unless that is None.

    Raises:
        DamagedArtifactError: naming the first damaged file, or the manifest.
    """
    wanted = made_from if made_from is not None else manifest["made_from"]
    if manifest["made_from"] != wanted or (made_from is None and digest_of(wanted) != str(manifest.get("name"))[-8:]):
        raise DamagedArtifactError(
            f"{folder} was not made from what its name says: another artifact has the same digest, or the manifest was "
            f"edited. Move that folder away and run the stage again."
        )
    if found := damage(folder, manifest, up_to=_CHECKED_BYTES):
        raise DamagedArtifactError(f"{found[0]}. The artifact is damaged: remove {folder} and run its stage again.")
