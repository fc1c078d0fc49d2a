"""Digests: of what an artifact is made from, of local files and folders, and the commits of hub models."""

import errno
import functools
import hashlib
import json
import logging
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from irexp.types import UserError

log = logging.getLogger(__name__)

#: The beginning of an identifier of a checkpoint, which is never asked for on the hub, even if it is mistyped.
_CHECKPOINTS = "checkpoint/"

#: The characters that the hub allows in a name.
_LONGEST_HUB_NAME = 96


def digest_of(made_from: dict[str, Any]) -> str:
    """Eight hexadecimal digits of SHA-256 over sorted JSON; the store compares `made_from` itself in full."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, or of the names and contents of all files in a folder except hidden ones.

    Folders that are links are followed, as by what reads the files.
    """
    if path.is_file():
        return _file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(_files_below(path, frozenset(path.resolve().parents))):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_file_digest(file)}\n".encode())
    return digest.hexdigest()


def _files_below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The files in a folder at any depth that are not hidden.

    A link to a folder above is not followed, and a folder that may not be read has no files.
    """
    here = above | {folder.resolve()}
    try:
        paths = list(folder.iterdir())
    except PermissionError:
        paths = []
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and path.resolve() not in here:
            yield from _files_below(path, here)


def exists(path: Path) -> bool:
    """Whether there is a file or folder; a name too long for the file system names none.

    Raises:
        UserError: if the system does not say, such as for a folder that may not be read.
    """
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise UserError(f"{path} cannot be looked at ({error.strerror}); change its permissions or its name") from None


def existing_file(path: Path) -> Path | None:
    """The file or folder at a path, else the same name with `.gz`; None if neither exists."""
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if exists(found)), None)


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, by its name or else its first bytes, which no UTF-8 text has."""
    if path.suffix == ".gz" or not path.is_file():
        return path.suffix == ".gz"
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _file_digest(path: Path) -> str:
    status = path.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _digest_of_state(str(path.resolve()), state)


@functools.lru_cache(maxsize=4096)
def _digest_of_state(path: str, state: tuple[int, ...]) -> str:
    """The digest of a file, read once per process and state; nothing can set the time of the last change (ctime)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hub_revision(name: object) -> str | None:
    """The commit of a hub model in the local cache; None for a local path or a model that was never fetched."""
    if not is_hub_name(name) or exists(Path(name).expanduser()):
        return None
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", str(home / "hub")))
    reference = cache / f"models--{name.replace('/', '--')}" / "refs" / "main"
    return reference.read_text(encoding="utf8").strip() if reference.is_file() else None


def is_hub_name(name: object) -> TypeGuard[str]:
    """Whether a value can be the name of a hub model, `name` or `owner/name`, not a path or an identifier."""
    if not isinstance(name, str) or len(name) > _LONGEST_HUB_NAME:
        return False
    return name.count("/") <= 1 and not name.startswith((".", "/", "~", _CHECKPOINTS))


def fetch_revision(name: object, *, root: Path) -> None:
    """Store the current commit of a hub model in the cache, unless the cache has one.

    Without a network this does nothing: loading the model will report what is missing.

    Args:
        name: a hub name; a local path or an artifact below `root` is ignored.
        root: the root folder of the artifacts.
    """
    if not is_hub_name(name) or exists(Path(name).expanduser()) or exists(root / name):
        return
    if hub_revision(name) is None and _is_hub_reachable():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

        try:
            hf_hub_download(name, "config.json")
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            log.debug("the hub's commit of %s could not be fetched: %s", name, error)


@functools.cache
def _is_hub_reachable() -> bool:
    """Whether the hub can be connected to, asked once per process: its client tries for 25 seconds per file."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=10):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (urllib.error.URLError, TimeoutError) as error:
        log.debug("%s cannot be reached: %s", constants.ENDPOINT, error)
        return isinstance(getattr(error, "reason", None), ssl.SSLError)  # its client may know more certificates
