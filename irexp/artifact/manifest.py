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
_READ = 2**26


class DamagedArtifactError(UserError):
    """An artifact is not as it was written."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete artifact.

    Raises:
        DamagedArtifactError: if it cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(manifest, dict) or not {"made_from", "lineage", "files", "provenance"} <= manifest.keys():
            raise ValueError("it is no manifest")
    except (OSError, ValueError) as error:
        raise DamagedArtifactError(
            f"{path} cannot be read ({error}). The artifact is damaged: remove {folder} and run its stage again."
        ) from error
    return manifest


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


def check(folder: Path, manifest: dict[str, Any], made_from: dict[str, Any] | None) -> None:
    """Compare an artifact with its manifest, and that with what it should be made from, if this is known.

    Raises:
        DamagedArtifactError: naming the first file that is not as it was written, or the manifest.
    """
    wanted = made_from if made_from is not None else manifest["made_from"]
    if manifest["made_from"] != wanted or (made_from is None and digest_of(wanted) != str(manifest.get("name"))[-8:]):
        raise DamagedArtifactError(
            f"{folder} was made from something else than its name says (its digest is the same by accident, or its "
            f"manifest was edited). Move that folder away and run the stage again."
        )
    if found := damage(folder, manifest, up_to=_READ):
        raise DamagedArtifactError(f"{found[0]}. The artifact is damaged: remove {folder} and run its stage again.")
