"""The files of an export: each has its name once it is complete, and large ones are divided into parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from irexp.types import UserError


def make_folder(folder: Path) -> None:
    """Make the folder of an export.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A file to write to, which is given its name once it is complete, and is removed after an error.

    Raises:
        UserError: if it cannot be written, for example because the disk is full.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} could not be written ({error.strerror or error}); free space on its disk, or name another folder as "
        f"stage.export.folder"
    )


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each with a line break at its end."""
    with path.open("w", encoding="utf8") as file:
        for line in lines:
            file.write(line + "\n")


def write_parts(
    first: Path, items: Iterable[str], *, most: int, head: str = "", between: str = "\n", tail: str = "\n"
) -> None:
    """Write items into numbered files: documents-000.json, documents-001.json and so on; at least the first one.

    Args:
        first: the path of the first file, with the number 000.
        items: what must not be divided.
        most: the bytes of a file, unless one item alone has more.
        head: the beginning of each file.
        between: what separates items.
        tail: the end of each file.
    """
    encoded = (item.encode() for item in items)
    item, number = next(encoded, None), 0
    with ExitStack() as all_complete:  # none has its name before the last one is complete
        while item is not None or not number:
            path = first.with_name(first.name.replace("-000", f"-{number:03}"))
            with all_complete.enter_context(complete(path)).open("wb") as file:
                size, separator = file.write(head.encode()) + len(tail.encode()), b""
                while item is not None and (not separator or size + len(separator) + len(item) <= most):
                    size += file.write(separator + item)
                    item, separator = next(encoded, None), between.encode()
                file.write(tail.encode())
            number += 1
