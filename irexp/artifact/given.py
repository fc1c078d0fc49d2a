"""Identifiers of artifacts that were typed wrongly."""

from __future__ import annotations

import difflib
from pathlib import Path

from irexp.artifact.stages import KINDS


def nearest_names(value: str, root: Path) -> str:
    """The end of a message: the artifacts whose names are nearest to an identifier; none for anything else.

    Args:
        value: as typed, such as `checkpoint/sbert.my_data-b60bb5b`.
        root: the root folder of the artifacts.
    """
    kind, _, name = value.partition("/")
    if kind not in KINDS or not name or not (root / kind).is_dir():
        return ""
    names = [path.name for path in (root / kind).iterdir() if not path.name.startswith(".")]
    near = [f"{kind}/{found}" for found in difflib.get_close_matches(name, names, n=3, cutoff=0.6)]
    return f"; the nearest are {', '.join(near)} (stage=status lists all)" if near else ""
