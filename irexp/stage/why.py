"""The stage that lists every setting in which two artifacts differ, over all that they are made from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irexp.artifact.lineage import Lineage, flatten
from irexp.artifact.store import Store
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Circumstances of an artifact besides its settings: in no identity, though results can depend on them.
_CIRCUMSTANCES = ("git", "hardware", "versions")


def why(output: Path, *, artifacts: str, of: Sequence[str]) -> list[str]:
    """List how two artifacts differ, over their whole lineage; nothing is written into `output`.

    Args:
        output: the job's folder; nothing is written there.
        artifacts: the folder of all artifacts.
        of: two artifacts, each by its identifier, path or digest.

    Returns:
        A line per differing setting, then one per differing circumstance (commit, hardware, versions).

    Raises:
        UserError: if these are not two artifacts of one kind.
    """
    lineage = Lineage(Store(Path(artifacts)))
    if len(of) != 2:
        raise UserError(f"stage.why.of={list(of)}: name two artifacts, as stage.why.of=[1a2b3c4d,5e6f7a8b]")
    first, second = (lineage.find(text) for text in of)
    if first.partition("/")[0] != second.partition("/")[0]:
        raise UserError(f"{first} and {second} are of different kinds, so that all of their settings differ")
    settings = _lines(lineage.all_settings(first), lineage.all_settings(second))
    circumstances = _lines(*(_circumstances(lineage, name) for name in (first, second)))
    text = "\n".join(f"  {line}" for line in settings) or "  nothing: they have the same settings"
    also = "\n".join(f"  {line}" for line in circumstances) or "  nothing"
    log.info(
        "why: %s (first) and %s (second) differ in\n%s\nand outside their identities in\n%s\n",
        first,
        second,
        text,
        also,
    )
    return [*settings, *circumstances]


def _lines(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {first.get(key, 'unset')} / {second.get(key, 'unset')}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _circumstances(lineage: Lineage, name: str) -> dict[str, Any]:
    """Commit, hardware and versions of an artifact and of all that it is made from, as far as it is here."""
    found: dict[str, Any] = {}
    for made in sorted(lineage.with_ancestors({name})):
        provenance = lineage.manifests[made]["provenance"]
        for key, value in flatten({part: provenance.get(part, {}) for part in _CIRCUMSTANCES}).items():
            found.setdefault(f"{made.partition('/')[0]}.{key}", value)
    return found
