"""Plain or gzip-compressed text files, read line by line; each line has its place, for messages and random access."""

from __future__ import annotations

import codecs
import errno
import gzip
import logging
import os
import re
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from irexp.artifact.content import existing_file, exists, is_gzip
from irexp.dataset.collection import DataError
from irexp.types import as_id

log = logging.getLogger(__name__)


class Line(NamedTuple):
    """A line of a file; `place` is `path:number`; `start` and `end` count bytes of the uncompressed file."""

    text: str
    place: str
    start: int
    end: int


class Record(NamedTuple):
    """The unparsed text of a document or query; `start` and `end` count bytes of the uncompressed file."""

    text: str
    place: str
    start: int
    end: int


def resolve(path: str) -> Path:
    """The file with a name, or with the name and `.gz`.

    Raises:
        DataError: if neither exists, naming the nearest folder that does and its content.
    """
    found = existing_file(Path(path).expanduser())
    if found is not None and found.is_file():
        return found
    wanted = Path(path).expanduser().absolute()
    if found is not None:
        raise DataError(f"{wanted} is a folder; a file is needed. It has {_listing(found)}")
    nearest = next((parent for parent in wanted.parents if exists(parent) and parent.is_dir()), wanted.parent)
    raise DataError(f"{wanted} does not exist, with or without .gz; {nearest} has {_listing(nearest)}")


def _listing(folder: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{', '.join(names[:8])}{more}" if names else "nothing"


def lines_of(path: str) -> Iterator[Line]:
    """Stream the lines of a file.

    Raises:
        DataError: if the file does not exist, cannot be read, is not UTF-8 text, or is damaged gzip.
    """
    file = resolve(path)
    offset = 0
    number = 0
    with _as_data_error(file), _open(file) as lines:
        try:
            for number, raw in enumerate(lines, 1):
                mark = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0  # of a file, or of joined ones
                text = raw[mark:].decode("utf8")
                if "\0" in text:
                    raise DataError(
                        f"{file}:{number}: this is not text, it holds the byte 0; is it UTF-16 or compressed?"
                    )
                start, offset = offset + mark, offset + len(raw)
                yield Line(text, f"{file}:{number}", start, offset)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file}:{number}: this is not UTF-8 ({error.reason} at byte {error.start}); convert it with iconv, or "
                f"unpack it if it is compressed"
            ) from None


_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(text: str, place: str) -> str:
    """The text at a place in a file, if it can be written and tokenized.

    Raises:
        DataError: if it has half of a surrogate pair, which JSON can hold.
    """
    if _SURROGATE.search(text):
        raise DataError(f"{place}: the text has half of a surrogate pair, such as a single \\ud83d; remove it")
    return text


def read_id(text: object, place: str) -> str:
    """The id at a place in a file: a string, or in JSON also a whole number.

    Raises:
        DataError: if `irexp.types.as_id` does not accept it.
    """
    if not isinstance(text, str | int) or isinstance(text, bool):
        raise DataError(f"{place}: an id must be a string or a whole number, not {type(text).__name__}")
    try:
        return as_id(str(text))
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None


def _open(file: Path) -> IO[bytes]:
    return gzip.open(file) if is_gzip(file) else open(file, "rb")  # type: ignore[return-value]


@contextmanager
def opened_file(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed.

    Raises:
        DataError: if the file does not exist, cannot be read, or is damaged gzip.
    """
    file = resolve(path)
    with _as_data_error(file), _open(file) as content:
        yield content


@contextmanager
def _as_data_error(file: Path) -> Iterator[None]:
    """Turn errors of the system or of gzip into a one-line DataError."""
    try:
        yield
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DataError(
                f"{file} cannot be unpacked: the temporary folder {tempfile.gettempdir()} is full; free space there, "
                f"or name a folder on another disk by the environment variable TMPDIR"
            ) from None
        is_damaged = isinstance(error, EOFError | zlib.error | gzip.BadGzipFile)
        damage = " is damaged" if is_damaged else " cannot be read"
        raise DataError(f"{file}{damage} ({error}); download or create it again") from None


class RandomAccess:
    """Parts of a file by offset; a gzip file is unpacked once, into a temporary file that ends with the process."""

    def __init__(self, path: str) -> None:
        """Open the file, unpacking it if it is compressed."""
        self._path = path
        file = resolve(path)
        if is_gzip(file):
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed by the finalizer
            weakref.finalize(self, self._file.close)
            with _as_data_error(file), gzip.open(file) as packed:
                shutil.copyfileobj(packed, self._file)
            self._file.flush()
            log.info("%s: unpacked %.1f MB, to look documents up", file, self._file.tell() / 1e6)
        else:
            self._file = open(file, "rb")  # noqa: SIM115 closed by the finalizer
            weakref.finalize(self, self._file.close)

    def read(self, start: int, end: int) -> str:
        """The text between two offsets; several processes may read at the same time."""
        return os.pread(self._file.fileno(), end - start, start).decode("utf8")

    def __reduce__(self) -> tuple[type[RandomAccess], tuple[str]]:
        return RandomAccess, (self._path,)  # a spawned process opens the file itself
