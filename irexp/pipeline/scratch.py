"""The folders that functions write into: a new one that is named, or a temporary one that goes with its object."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from irexp.artifact.content import exists
from irexp.types import UserError


def new_folder(folder: str | Path | None) -> Path:
    """A folder to write into; a temporary one for None.

    Raises:
        UserError: if there is something in it, or it cannot be created.
    """
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="irexp-"))
    path = Path(folder).expanduser()
    if exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder; name another one, or remove it")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be created ({error.strerror}); name another folder") from None
    return path


def remove_with(owner: object, folder: Path) -> None:
    """Remove a temporary folder when the object that reads it is gone, at the latest when the program ends."""
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
