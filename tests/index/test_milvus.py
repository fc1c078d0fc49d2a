"""Milvus, embedded and as a server: what a killed build resumes, what it may not record, what it refuses."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp.index import milvus_collection
from irexp.index.growing import GrowingArrays, count_documents
from irexp.index.index import Index
from irexp.index.milvus import Milvus, MilvusSearch
from irexp.index.milvus_collection import MilvusCollection, requests
from irexp.index.milvus_sparse import MilvusSparse
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.ranking import rank
from irexp.index.sharded import Sharded
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.types import UserError
from tests.engines import ALL_TOKENS, COUNT, ENGINES, IDS, Case, built, encode, exact, vectors_of
from tests.milvus_server import Server

KINDS: dict[str, Callable[[str | None], Index]] = {
    "milvus": lambda uri: Milvus(uri=uri),
    "milvus_sparse": lambda uri: MilvusSparse(uri=uri),
    "milvus_tokens": lambda uri: TokenRetrieval(Milvus(uri=uri), search=TokenSearch(ALL_TOKENS)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests, since collections have names of their own."""
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


def found(index: Index, case: Case) -> list[list[tuple[str, float]]]:
    """The best documents of a few queries."""
    return rank(index, vectors_of(case, 4, 1), 20, doc_ids=IDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_server_gives_what_the_embedded_database_gives(tmp_path: Path, name: str, server: Server) -> None:
    """The same code fills and searches a collection over the network; the folder holds its name and no database."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0)
    index = built(KINDS[name](server.uri), encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert found(index, case) == found(exact(case, documents), case)
    assert not list((tmp_path / "index").rglob("*.db"))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("muvera", lambda: Muvera(Milvus(), repetitions=2, signs=2, search=MuveraSearch(COUNT))),
        ("sharded", lambda: Sharded(Milvus(), parts=3)),
    ],
)
def test_milvus_serves_other_engines(tmp_path: Path, name: str, make: Callable[[], Index]) -> None:
    """It holds the long vectors of MUVERA, and a part of the documents, each in a folder of its own."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0)
    index = built(make(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert found(index, case) == found(exact(case, documents), case)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of each request that was acknowledged; requests are small."""
    noted: list[list[int]] = []
    upsert = MilvusCollection.upsert

    def noting(self: MilvusCollection, rows: Any, vectors: Any) -> None:
        upsert(self, rows, vectors)
        noted.append(list(rows))

    monkeypatch.setattr(MilvusCollection, "upsert", noting)
    monkeypatch.setattr(milvus_collection, "_REQUEST", 20 * 8 * 4)
    return noted


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("is_remote", [False, True])
def test_a_killed_build_resumes_after_the_last_acknowledged_batch(
    tmp_path: Path,
    name: str,
    is_remote: bool,
    server: Server,
    sent: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was acknowledged is not sent again; the batch that was not recorded is, and does not appear twice."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0)
    encoding = encode(tmp_path / "encoding", documents)
    (tmp_path / "index").mkdir()
    append, calls = GrowingArrays.append, 0

    def killed(self: GrowingArrays, arrays: Any, *, documents: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 5 and len(sent) > 3:
            raise KeyboardInterrupt
        append(self, arrays, documents=documents)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GrowingArrays, "append", killed)
        KINDS[name](server.uri if is_remote else None).build(encoding, tmp_path / "index")
    before = [row for rows in sent for row in rows]
    index = KINDS[name](server.uri if is_remote else None)
    index.build(encoding, tmp_path / "index")
    index.load(tmp_path / "index")
    assert found(index, case) == found(exact(case, documents), case)
    after = [row for rows in sent for row in rows][len(before) :]
    assert 0 < len(set(before) & set(after)) <= 20 and len(before) > 40


#: Kills itself when the sixth batch was acknowledged but not recorded.
SUICIDE = """
import os, signal, sys
from pathlib import Path
from irexp.index import milvus_collection
from irexp.index.growing import GrowingArrays, count_documents
from irexp.index.milvus import Milvus
from irexp.index.shards import EncodedDocuments

milvus_collection._REQUEST, append, calls = 640, GrowingArrays.append, []

def killed(self, arrays, *, documents):
    calls.append(documents)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, arrays, documents=documents)

GrowingArrays.append = killed
Milvus().build(EncodedDocuments(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_embedded_database_survives_the_death_of_its_process(tmp_path: Path) -> None:
    """What was acknowledged is on disk, and the lock is gone: another process resumes the build."""
    case = ENGINES["milvus"]
    documents = vectors_of(case, COUNT, 0)
    encoding = encode(tmp_path / "encoding", documents)
    (tmp_path / "index").mkdir()
    command = [sys.executable, "-c", SUICIDE, str(tmp_path / "encoding"), str(tmp_path / "index")]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -signal.SIGKILL
    assert count_documents(tmp_path / "index" / "milvus") == 100
    index = Milvus()
    index.build(encoding, tmp_path / "index")
    index.load(tmp_path / "index")
    assert len(index) == COUNT and found(index, case) == found(exact(case, documents), case)


def test_a_build_survives_a_restart_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is away, calls are repeated after growing pauses; then the build continues."""
    own = Server(tmp_path / "server")
    case = ENGINES["milvus"]
    documents = vectors_of(case, COUNT, 0)
    encoding = encode(tmp_path / "encoding", documents)
    (tmp_path / "index").mkdir()
    restarts: list[threading.Timer] = []

    def advance(_: int) -> None:
        if not restarts and _:
            own.stop()
            restarts.append(threading.Timer(1.0, own.start))
            restarts[0].start()

    index = Milvus(uri=own.uri)
    index.build(encoding, tmp_path / "index", advance)
    index.load(tmp_path / "index")
    assert restarts and found(index, case) == found(exact(case, documents), case)
    own.stop()


def test_an_unreachable_server_is_one_line_after_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the address: the error names it, and comes as soon as the patience is over."""
    monkeypatch.setattr(milvus_collection, "_CONNECTING", 1.0)
    encoding = encode(tmp_path / "encoding", vectors_of(ENGINES["milvus"], 9, 0), shards=1)
    (tmp_path / "index").mkdir()
    started = time.monotonic()
    calls: tuple[Callable[[], object], ...] = (
        lambda: Milvus(uri="http://127.0.0.1:9").build(encoding, tmp_path / "index"),
        lambda: Milvus(uri="http://127.0.0.1:9").check(None, 8),
        lambda: MilvusSparse(uri="http://127.0.0.1:9").check(None, 30522),
        lambda: Sharded(TokenRetrieval(Milvus(uri="http://127.0.0.1:9"))).check(None, 8),
    )
    for call in calls:
        with pytest.raises(UserError, match=r"^Milvus at http://127\.0\.0\.1:9: Fail connecting to server .+") as error:
            call()
        assert "\n" not in str(error.value) and "check that index.uri is right and the server runs" in str(error.value)
    assert time.monotonic() - started < 20


def test_a_collection_that_was_dropped_is_missed_and_made_again(tmp_path: Path, server: Server) -> None:
    """Loading names it, and a build in the same folder sends everything again."""
    case = ENGINES["milvus"]
    documents = vectors_of(case, COUNT, 0)
    encoding = encode(tmp_path / "encoding", documents)
    index = built(Milvus(uri=server.uri), encoding, tmp_path / "index")
    assert isinstance(index, Milvus) and index._collection is not None
    index._collection._client.drop_collection(index._collection._name)
    with pytest.raises(UserError, match=r"does not have the collection irexp_\w+ of this index any more"):
        Milvus(uri=server.uri).load(tmp_path / "index")
    index.build(encoding, tmp_path / "index")
    index.load(tmp_path / "index")
    assert found(index, case) == found(exact(case, documents), case)


@pytest.mark.parametrize(
    ("variables", "credentials"),
    [
        ({"MILVUS_TOKEN": "a-token"}, "a-token"),
        ({"MILVUS_USER": "me", "MILVUS_PASSWORD": "secret"}, "me:secret"),
    ],
)
def test_credentials_come_from_the_environment_and_are_not_recorded(
    tmp_path: Path,
    server: Server,
    variables: dict[str, str],
    credentials: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server hears them; neither the index's files nor the log hold them."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server.listener.seen.clear()
    caplog.set_level(logging.DEBUG)
    documents = vectors_of(ENGINES["milvus"], 30, 0)
    built(Milvus(uri=server.uri), encode(tmp_path / "encoding", documents), tmp_path / "index")
    heard = b64encode(credentials.encode()).decode()
    assert server.listener.seen == {heard}
    secrets = (*variables.values(), heard) if len(variables) == 1 else ("secret", heard)
    files = [path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()]
    assert files and not any(secret.encode() in content for secret in secrets for content in files)
    assert not any(secret in caplog.text for secret in secrets)


def test_what_cannot_be_stored_is_refused_before_anything_is_made(tmp_path: Path, server: Server) -> None:
    """A structure that only servers have, too many dimensions, and negative weights."""
    with pytest.raises(UserError, match=r"index\.structure=DISKANN: Milvus Lite has only FLAT, HNSW, IVF_FLAT"):
        Milvus("DISKANN").check(None, 8)
    Milvus("DISKANN", uri=server.uri).check(None, 8)
    with pytest.raises(UserError, match="takes vectors of 2 to 32,768 dimensions, and these have 40,000"):
        Milvus().check(None, 40000)
    encoding = encode(tmp_path / "encoding", -vectors_of(ENGINES["milvus_sparse"], 9, 0), shards=1)  # type: ignore[operator]
    (tmp_path / "index").mkdir()
    with pytest.raises(UserError, match="does not take negative weights, which this model makes; use index=sparse"):
        MilvusSparse().build(encoding, tmp_path / "index")


def test_searching_leaves_the_index_as_it_was_written(tmp_path: Path) -> None:
    """Two processes may search one artifact, whose files are compared with their checksums."""
    case = ENGINES["milvus"]
    documents = vectors_of(case, COUNT, 0)
    index = built(Milvus("HNSW"), encode(tmp_path / "encoding", documents), tmp_path / "index")
    before = {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()}
    other = Milvus("HNSW")
    other.load(tmp_path / "index")
    assert found(index, case) == found(other, case)
    assert before == {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()}


def test_a_partition_holds_the_vectors(tmp_path: Path) -> None:
    """They are written into it and found in it; the default partition stays empty."""
    case = ENGINES["milvus"]
    documents = vectors_of(case, COUNT, 0)
    index = Milvus(partition="articles")
    built(index, encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert found(index, case) == found(exact(case, documents), case)
    assert index._collection is not None
    collection = index._collection
    statistics = [collection._client.get_partition_stats(collection._name, name) for name in ("articles", "_default")]
    assert [int(each["row_count"]) for each in statistics] == [COUNT, 0]


@pytest.mark.parametrize(
    ("structure", "little", "much"),
    [("HNSW", MilvusSearch(ef=1), MilvusSearch(ef=500)), ("IVF_FLAT", MilvusSearch(probes=1), MilvusSearch(probes=40))],
)
def test_larger_search_settings_find_more(
    tmp_path: Path, structure: Any, little: MilvusSearch, much: MilvusSearch
) -> None:
    """`ef` and `probes` reach the database, and with large values almost everything is found."""
    generator = np.random.default_rng(0)
    documents, queries = (generator.standard_normal((rows, 32)).astype(np.float32) for rows in (2000, 20))
    built(Milvus(structure, links=4, lists=40), encode(tmp_path / "encoding", documents), tmp_path / "index")
    best_BK = exact(ENGINES["milvus"], documents).search(queries, 10)[1]
    recalls = []
    for search in (little, much):
        index = Milvus(structure, links=4, lists=40, search=search)
        index.load(tmp_path / "index")
        pairs = zip(index.find(queries, 10)[1].tolist(), best_BK.tolist(), strict=True)
        recalls.append(np.mean([len(set(found) & set(best)) / 10 for found, best in pairs]))
    assert recalls[0] < recalls[1] - 0.1 and recalls[1] > 0.95


def test_requests_are_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are divided in order, and one that is too large alone is sent alone."""
    monkeypatch.setattr(milvus_collection, "_REQUEST", 100)
    assert list(requests([40, 40, 40, 300, 10, 10])) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]
    assert list(requests([])) == [] and list(requests([0, 0])) == [slice(0, 2)]
