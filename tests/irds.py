"""Collections of ir_datasets for tests: its own classes over files here, registered for the time of a test."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ir_datasets
from ir_datasets.formats import TrecQrels, TrecScoredDocs, TsvDocs, TsvQueries

#: An address where nothing answers.
UNREACHABLE = "http://127.0.0.1:9/nothing"


class LocalFile:
    """A file that needs no download."""

    def __init__(self, path: Path) -> None:
        """A file at a path."""
        self._path = path

    def path(self, force: bool = True) -> str:
        """The file's path."""
        return str(self._path)

    def stream(self) -> object:
        """The file's bytes."""
        return self._path.open("rb")


@contextmanager
def registered(
    folder: Path,
    docs: str,
    *more: Any,
    queries: str = "q1\tquestion\n",
    qrels: str = "q1 0 d2 1\n",
    scoreddocs: str | None = None,
) -> Iterator[str]:
    """A collection, registered as irexp-toy; `more` are further handlers of ir_datasets."""
    texts = {"docs.tsv": docs, "queries.tsv": queries, "qrels": qrels, "scoreddocs": scoreddocs}
    for name, text in texts.items():
        if text is not None:
            (folder / name).write_text(text)
    dataset = ir_datasets.Dataset(
        TsvDocs(LocalFile(folder / "docs.tsv"), namespace="irexp", lang="en"),
        TsvQueries(LocalFile(folder / "queries.tsv"), namespace="irexp", lang="en"),
        TrecQrels(LocalFile(folder / "qrels"), {1: "relevant"}),
        *([TrecScoredDocs(LocalFile(folder / "scoreddocs"))] if scoreddocs is not None else []),
        *more,
    )
    ir_datasets.registry.register("irexp-toy", dataset)
    try:
        yield "irexp-toy"
    finally:
        ir_datasets.registry._registered.pop("irexp-toy")


class _Silent(SimpleHTTPRequestHandler):
    """A server of files that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
