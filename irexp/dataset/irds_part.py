"""The parts of a collection of ir_datasets: whether it has one, whether it is on this machine, and fetching it."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from irexp.artifact.resource import Resource
from irexp.dataset.collection import DataError

#: The parts that irexp reads, as ir_datasets names them.
Part = Literal["docs", "queries", "qrels", "scoreddocs", "docpairs"]

#: How to do without a part, for the message where a collection lacks it.
_HINT = {"scoreddocs": "re-rank the results of a search instead: re_rank=bm25"}


@dataclass(frozen=True)
class IrdsPart(Resource):
    """A part of a collection.

    Attributes:
        dataset_id: the collection, or a subset of it.
        part: the part.
    """

    dataset_id: str
    part: Part

    @property
    def name(self) -> str:
        """The id and the part."""
        return f"{self.dataset_id} of ir_datasets, {self.part}"

    def require(self) -> None:
        """Open the collection, which reads no file of it.

        Raises:
            DataError: if the id is unknown, or the collection lacks the part.
        """
        open_part(self.dataset_id, self.part)

    def is_here(self) -> bool:
        """Whether the document store is built, or the first line of another part can be read without a download."""
        if self.part == "docs":
            store = self._store()
            return bool(store.built()) if hasattr(store, "built") else self._is_readable()
        return self._is_readable()

    def bytes_here(self) -> int | None:
        """The bytes of its file; of documents, of their store."""
        if self.part == "docs":
            place = getattr(self._store(), "path", None)
        else:
            place = getattr(open_part(self.dataset_id, self.part), f"{self.part}_path", None)
        with _offline():
            path = Path(str(place() if callable(place) else place))
        files = path.rglob("*") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file()) or None

    def fetch(self) -> None:
        """Download it into ir_datasets' folder, which IR_DATASETS_HOME moves, and build the store of documents.

        Raises:
            DataError: if it cannot be downloaded.
        """
        with downloading(self.dataset_id):
            if self.part == "docs" and hasattr(store := self._store(), "build"):
                store.build()
            else:
                self._read_one()

    def _store(self) -> Any:
        return open_part(self.dataset_id, "docs").docs_store()

    def _read_one(self) -> None:
        next(iter(getattr(open_part(self.dataset_id, self.part), f"{self.part}_iter")()), None)

    def _is_readable(self) -> bool:
        self.require()
        try:
            with _offline(), downloading(self.dataset_id):
                self._read_one()
        except DataError:
            return False
        return True


class _NotHereError(OSError):
    """What was read is not on this machine."""


@contextmanager
def _offline() -> Iterator[None]:
    """Let ir_datasets read only what is on this machine, without a word about the rest."""
    from ir_datasets.util import RequestsDownload

    def refuse(download: Any) -> Iterator[bytes]:
        raise _NotHereError(str(download))

    download, disabled = RequestsDownload.__iter__, logging.root.manager.disable
    RequestsDownload.__iter__ = refuse
    logging.disable()
    try:
        yield
    finally:
        RequestsDownload.__iter__ = download
        logging.disable(disabled)


@contextmanager
def downloading(dataset_id: str) -> Iterator[None]:
    """Turn a failed download of ir_datasets into a one-line DataError."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        is_download = "download" in str(error) if isinstance(error, RuntimeError) else error.errno is None
        if not is_download:  # such as a full disk
            raise
        raise DataError(
            f"the files of {dataset_id} cannot be downloaded ({type(error).__name__}: {str(error)[:120]} …); try again "
            f"with a network, or use local files with dataset=local or dataset=files"
        ) from error


def open_part(dataset_id: str, part: str) -> Any:
    """A collection that has the required part.

    Raises:
        DataError: if the id is unknown (naming similar ones), or the collection lacks the part.
    """
    import ir_datasets

    try:
        dataset = ir_datasets.load(dataset_id)
    except KeyError:
        near = nearest_id(dataset_id)
        hint = f"; did you mean {near}?" if near else "; ir-datasets.com lists them"
        raise DataError(f"ir_datasets has no collection {dataset_id!r}{hint}") from None
    if not getattr(dataset, f"has_{part}")():
        hint = _HINT.get(part, "ir-datasets.com says which has")
        raise DataError(f"the collection {dataset_id} of ir_datasets has no {part}; {hint}")
    return dataset


def nearest_id(dataset_id: str) -> str | None:
    """The id of ir_datasets that a text is or nearly is; several in one string, None if none is near."""
    import ir_datasets

    try:
        ir_datasets.load(dataset_id)
    except KeyError:
        known = [str(name) for name in ir_datasets.registry]
        return " or ".join(difflib.get_close_matches(dataset_id, known, n=3, cutoff=0.5)) or None
    return dataset_id
