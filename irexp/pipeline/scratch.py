"""Output folders: a new one that the caller names, or a temporary one, removed with its reader or after an error."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irexp.artifact.content import exists
from irexp.types import UserError


@contextmanager
def new_folder(folder: str | Path | None) -> Iterator[Path]:
    """Make a folder to write into; a temporary one for None, which does not survive an error in the block.

    Raises:
        UserError: if it exists and is not an empty folder, or cannot be created.
    """
    if folder is None:
        place = Path(tempfile.mkdtemp(prefix="irexp-"))
        try:
            yield place
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return
    path = Path(folder).expanduser()
    if exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder; name another one, or remove it")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be created ({error.strerror}); name another folder") from None
    yield path


def remove_with(owner: object, folder: Path) -> None:
    """Remove a temporary folder once the object that reads it is deleted, at the latest at the program's end."""
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
