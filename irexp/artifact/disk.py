"""What the store asks of the file system: locks, that what was written is on the disk, and the removal of folders."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

log = logging.getLogger(__name__)


def sync(folder: Path) -> None:
    """Wait until a folder's files are on the disk, so that none of them is empty after a power failure."""
    for path in (*folder.rglob("*"), folder):
        sync_entries(path)


def sync_entries(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock."""
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def hold_lock(path: Path, name: str, *, is_shared: bool = False, waits: bool = True) -> Iterator[TextIO]:
    """Hold a file lock, alone or with others that share it; it is released even if the process is killed.

    Args:
        path: of the file.
        name: of what it protects, for the log.
        is_shared: whether others may hold it, too.
        waits: whether to wait until it can be had.

    Yields:
        The file.

    Raises:
        BlockingIOError: if another process holds it, and this one does not wait.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    is_held = False
    while not is_held:
        with path.open("a+") as file:  # NFS wants to read what is shared, and to write what is held alone
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waits:
                    raise
                log.info("another process is making %s: waiting for it", name)
                fcntl.flock(file, kind)
            with suppress(FileNotFoundError):  # whoever removed an artifact has removed its lock, too
                is_held = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if is_held:
                yield file


def remove_folder(path: Path) -> None:
    """Remove a folder, or a link to one, whose content stays; nothing if there is none."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
