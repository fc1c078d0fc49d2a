"""The stage that compares the files of every artifact with the checksums in its manifest."""

from __future__ import annotations

import logging
from pathlib import Path

from irexp.artifact.manifest import MANIFEST, DamagedArtifactError, damage, read_manifest
from irexp.artifact.stages import KINDS
from irexp.artifact.store import Store
from irexp.config.schema import Machine
from irexp.progress import counted
from irexp.types import UserError

log = logging.getLogger(__name__)


def verify(output: Path, *, artifacts: str, machine: Machine) -> None:
    """Read all artifacts below `artifacts`; nothing is written into `output`.

    Raises:
        UserError: if files have changed since they were written; names each.
    """
    store = Store(Path(artifacts))
    folders = [folder for kind in KINDS for folder in store.all(kind)]
    found = [
        f"{folder} has no {MANIFEST}: it was left by an interrupted copy or removal"
        for kind in KINDS
        for folder in store.without_manifest(kind)
    ]
    size = 0
    for folder in counted(folders, unit=" artifacts", desc="verify", shown=machine.progress):
        try:
            manifest = read_manifest(folder)
        except DamagedArtifactError as error:
            found.append(str(error))
            continue
        found += damage(folder, manifest)
        size += sum(entry["bytes"] for entry in manifest["files"].values())
    if found:
        lines = "\n".join(f"    {line}" for line in found)
        raise UserError(f"damaged artifacts; remove their folders and run their stages again:\n{lines}")
    log.info("verify: %d artifacts, %s bytes, are unchanged since they were written", len(folders), f"{size:,}")
