"""A collection of Milvus: on a server, or embedded, by Milvus Lite, in a folder.

Milvus Lite is a server within this process. It locks its folder and writes into it, so that a finished database is
searched in a temporary copy: an artifact stays as it was written, and several processes can search it.

Rows are numbered; the number is the primary key, so that a batch that is sent again replaces itself. A first connection
is tried for `_CONNECTING` seconds. If a server that was connected cannot be reached, a call is repeated after growing
pauses, for `_PATIENCE` seconds; where the server limits the rate, pymilvus repeats it. Who connects is said by the
environment alone: MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD.

Shapes: B queries, K results per query.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from irexp.config.installation import install_command
from irexp.index.index import Rows, Scores
from irexp.index.rescore import no_results
from irexp.types import UserError

log = logging.getLogger(__name__)

#: How long a call is repeated, and how long a first connection is tried, in seconds.
_PATIENCE = 120.0
_CONNECTING = 10.0

#: The first and the longest pause before a call is repeated, in seconds.
_PAUSES = (0.1, 5.0)

#: The code of pymilvus for a server that cannot be reached.
_CONNECT_FAILED = 2

#: The largest request in bytes; a server takes 64 MB.
_REQUEST = 2**24

#: The most results per query, and the most queries and results of one request.
MOST_RESULTS = 16384
_QUERIES = 256
_RESULTS = 2**20

_KEY, _VECTOR = "row", "vector"

T = TypeVar("T")

#: Which writes a search sees: all (Strong), those before a few seconds (Bounded), its own (Session), any (Eventually).
Consistency = Literal["Strong", "Bounded", "Session", "Eventually"]


class MilvusCollection:
    """One collection, which an index fills and searches."""

    def __init__(self, name: str, database: Path, *, uri: str | None, partition: str | None) -> None:
        """Not connected yet.

        Args:
            name: of the collection.
            database: the folder of Milvus Lite, whose name ends in .db; not used with a uri.
            uri: the server; None for Milvus Lite.
            partition: the partition that holds the rows; None for the default one.
        """
        self._name, self._database, self._uri, self._partition = name, database, uri, partition
        self._opened = database
        self._client: Any = None

    def reach(self) -> None:
        """Connect to the server and ask what a build asks first, for a few seconds; nothing is created.

        Raises:
            UserError: if it does not answer, or refuses who connects.
        """
        client = self._connect()
        try:
            self._call(lambda: client.has_collection(self._name, timeout=_CONNECTING), patience=_CONNECTING)
        finally:
            client.close()

    def create(self, kind: Literal["dense", "sparse"], dim: int) -> bool:
        """Connect, and create the collection if it does not exist.

        Returns:
            Whether it did not exist.
        """
        self._client = self._connect()
        return self._call(lambda: self._create(kind, dim))

    def _create(self, kind: Literal["dense", "sparse"], dim: int) -> bool:
        is_new = not self._client.has_collection(self._name, timeout=_PATIENCE)
        if is_new:
            types = package().DataType
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field(_KEY, types.INT64, is_primary=True)
            if kind == "dense":
                schema.add_field(_VECTOR, types.FLOAT_VECTOR, dim=dim)
            else:
                schema.add_field(_VECTOR, types.SPARSE_FLOAT_VECTOR)
            self._client.create_collection(self._name, schema=schema, timeout=_PATIENCE)
        if self._partition is not None and not self._client.has_partition(self._name, self._partition):
            self._client.create_partition(self._name, self._partition, timeout=_PATIENCE)
        return is_new

    def upsert(self, rows: Sequence[int], vectors: Sequence[Any]) -> None:
        """Write vectors under their numbers; returns once the server has acknowledged them."""
        data = [{_KEY: row, _VECTOR: vector} for row, vector in zip(rows, vectors, strict=True)]
        partition = self._partition or ""
        if data:
            self._call(lambda: self._client.upsert(self._name, data, partition_name=partition, timeout=_PATIENCE))

    def finish(self, structure: str, parameters: Mapping[str, int]) -> None:
        """Write everything to disk, index the vectors unless they are, and disconnect."""
        self._call(lambda: self._finish(structure, parameters))
        self._client.close()
        if self._uri is None:
            _stop(self._database)

    def _finish(self, structure: str, parameters: Mapping[str, int]) -> None:
        """Take as long as it takes: these calls have no time limit."""
        self._client.flush(self._name)
        if not self._client.list_indexes(self._name):
            indexes = self._client.prepare_index_params()
            nested = {"params": dict(parameters)}  # Lite overlooks settings that are not nested
            indexes.add_index(_VECTOR, index_type=structure, metric_type="IP", params=nested)
            self._client.create_index(self._name, indexes, sync=self._uri is not None)  # Lite builds it when it loads
        self._client.load_collection(self._name)

    def open(self) -> None:
        """Connect and load the collection.

        Raises:
            UserError: if the server does not have it, or the temporary folder has no space for a copy.
        """
        if self._uri is None:
            self._opened = _copied(self._database)
            weakref.finalize(self, _remove, self._opened)
        self._client = self._connect()
        weakref.finalize(self, self._client.close)  # runs before the one above
        if not self._call(lambda: self._client.has_collection(self._name, timeout=_PATIENCE)):
            raise UserError(
                f"{self._place} does not have the collection {self._name} of this index any more; make it again with "
                f"stage=index force=[index]"
            )
        self._call(lambda: self._client.load_collection(self._name))

    def search(
        self, vectors: Sequence[Any], depth: int, parameters: Mapping[str, int], consistency: Consistency
    ) -> tuple[Scores, Rows]:
        """The rows with the largest inner products with each query, best first.

        Returns:
            Scores and rows, both (B, K) with K = depth, at most `MOST_RESULTS`; a row of -1 means no result.
        """
        assert depth <= MOST_RESULTS
        score_BK, row_BK = no_results(len(vectors), depth)
        if not depth:
            return score_BK, row_BK
        options = {
            "anns_field": _VECTOR,
            "limit": depth,
            "search_params": {"metric_type": "IP", "params": dict(parameters)},
            "partition_names": None if self._partition is None else [self._partition],
            "consistency_level": consistency,
            "timeout": _PATIENCE,
        }
        step = max(1, min(_QUERIES, _RESULTS // depth))
        for start in range(0, len(vectors), step):
            part = list(vectors[start : start + step])
            found = self._call(partial(self._client.search, self._name, data=part, **options))
            for number, hits in enumerate(found, start):
                score_BK[number, : len(hits)], row_BK[number, : len(hits)] = hits.distances, hits.ids
        return score_BK, row_BK

    @property
    def _place(self) -> str:
        if self._uri is None and self._opened != self._database:
            return f"Milvus at {self._opened}, a copy in the temporary folder (TMPDIR)"
        return f"Milvus at {self._uri or self._database}"

    def _connect(self) -> Any:
        names = {"token": "MILVUS_TOKEN", "user": "MILVUS_USER", "password": "MILVUS_PASSWORD"}
        known = {} if self._uri is None else {key: os.environ.get(name, "") for key, name in names.items()}
        uri = self._uri or str(self._opened)
        return self._call(lambda: package().MilvusClient(uri=uri, timeout=_CONNECTING, **known), patience=_CONNECTING)

    def _call(self, call: Callable[[], T], *, patience: float | None = None) -> T:
        """The result of a call, which is repeated while the server cannot be reached.

        Raises:
            UserError: if it fails, in one line.
        """
        unreachable, failed = package().exceptions.MilvusException, importlib.import_module("grpc").RpcError
        pause, end = _PAUSES[0], time.monotonic() + (patience or _PATIENCE)
        while True:
            try:
                return call()
            except (unreachable, failed) as error:
                reason = " ".join(str(error.message if isinstance(error, unreachable) else error.details()).split())
                is_away = isinstance(error, unreachable) and error.code == _CONNECT_FAILED
                if not is_away or time.monotonic() + pause > end:
                    raise UserError(f"{self._place}: {reason}{self._hint(error)}") from error
                log.warning("%s cannot be reached; trying again in %.1f seconds", self._place, pause)
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _hint(self, error: Any) -> str:
        """The end of an error message: what to check if a server cannot be reached, or refuses who connects."""
        code = error.code() if callable(error.code) else error.code
        if self._uri is None or code not in (
            _CONNECT_FAILED,
            importlib.import_module("grpc").StatusCode.UNAUTHENTICATED,
        ):
            return ""
        return (
            "; check that index.uri is right and the server runs, and that MILVUS_TOKEN, or MILVUS_USER and "
            "MILVUS_PASSWORD, are those of a user of it"
        )


def requests(sizes: Sequence[int]) -> Iterator[slice]:
    """Consecutive vectors, given their bytes, in parts that one request can hold."""
    start = total = 0
    for number, size in enumerate(sizes):
        if total and total + size > _REQUEST:
            yield slice(start, number)
            start, total = number, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def package() -> Any:
    """The package pymilvus.

    Raises:
        UserError: if it is not installed.
    """
    logging.getLogger("pymilvus").propagate = False  # it logs tracebacks of errors, which are raised here in one line
    logging.getLogger("milvus_lite").setLevel(logging.WARNING)  # it logs each start and end of its server
    try:
        return importlib.import_module("pymilvus")
    except ImportError as error:
        raise UserError(f"index=milvus needs its client ({error}): {install_command('milvus')}") from error


def _copied(database: Path) -> Path:
    """A temporary copy of a database of Milvus Lite.

    Raises:
        UserError: if it cannot be written, naming the folder: the disk of the artifacts is another one.
    """
    fault = f"Milvus Lite searches a temporary copy of {database}, which could not be made"
    advice = "free space there, or name a folder on another disk by the environment variable TMPDIR"
    try:
        folder = Path(tempfile.mkdtemp(prefix="irexp-milvus-"))
    except OSError as error:
        raise UserError(f"{fault} ({error}); {advice}") from error
    try:
        shutil.copytree(database, folder / database.name)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error  # it lists source, copy and reason
        raise UserError(f"{fault} in {folder.parent} ({reason}); {advice}") from error
    return folder / database.name


def _stop(database: Path) -> None:
    """Stop the server of a database of Milvus Lite, which writes what is left and gives up its lock."""
    importlib.import_module("milvus_lite.server_manager").server_manager_instance.release_server(str(database))


def _remove(database: Path) -> None:
    """Stop the server of a temporary copy, and remove that."""
    _stop(database)
    shutil.rmtree(database.parent, ignore_errors=True)
