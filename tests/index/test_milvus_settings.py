"""What Milvus cannot do is refused before anything is encoded or searched, in one line that says what to change."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from irexp.index import milvus, milvus_collection
from irexp.index.index import Index
from irexp.index.milvus import Milvus, MilvusSearch
from irexp.index.milvus_sparse import MilvusSparse, MilvusSparseSearch
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.ranking import rank
from irexp.index.sharded import Sharded
from irexp.types import UserError
from tests.engines import COUNT, ENGINES, IDS, built, encode, exact, vectors_of
from tests.milvus_server import Server


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Milvus(links=1), r"index\.links=1 is out of range: Milvus takes 2 to 2,048"),
        (lambda: Milvus("HNSW", links=4000), r"index\.links=4000 is out of range"),
        (lambda: Milvus("HNSW", ef_construction=0), r"index\.ef_construction=0 is out of range"),
        (lambda: Milvus("IVF_FLAT", lists=0), r"index\.lists=0 is out of range: Milvus takes 1 to 65,536"),
        (lambda: Milvus("IVF_FLAT", lists=10**6), r"index\.lists=1000000 is out of range"),
        (lambda: MilvusSearch(ef=0), r"index\.search\.ef=0 is out of range"),
        (lambda: MilvusSearch(probes=0), r"index\.search\.probes=0 is out of range: Milvus takes 1 to 65,536"),
        (lambda: MilvusSparse(terms=0), r"index\.terms=0 is out of range"),
        (lambda: MilvusSparseSearch(terms=-1), r"index\.search\.terms=-1 is out of range"),
        (lambda: Milvus(partition=""), r"index\.partition='' is not a name for a partition of Milvus"),
        (lambda: Milvus(partition="a b"), "it must have 1 to 255 letters, digits and underscores; null is the default"),
        (lambda: MilvusSparse(partition="../up"), r"index\.partition='\.\./up' is not a name"),
        (lambda: MilvusSparse(partition=256 * "a"), "is not a name for a partition"),
    ],
)
def test_settings_out_of_range_are_refused_when_the_engine_is_made(make: Callable[[], object], message: str) -> None:
    """A server would refuse them once all vectors were sent; Milvus Lite takes them, or its process dies."""
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("uri", ["http://me:secret@host:19530", "https://secret@host", "http://host?token=secret"])
def test_a_secret_in_the_address_is_refused_without_repeating_it(uri: str) -> None:
    """The configuration is recorded in every manifest; the error says where credentials belong."""
    with pytest.raises(UserError, match="MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD") as error:
        Milvus(uri=uri)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("uri", ["localhost:19530", "lite.db", "ftp://host", "http://"])
def test_what_is_not_an_address_is_refused(uri: str) -> None:
    """A path would be taken for an embedded database elsewhere."""
    with pytest.raises(UserError, match="is not the address of a Milvus server, such as http://localhost:19530"):
        MilvusSparse(uri=uri)


@pytest.mark.parametrize("is_open", [False, True])
def test_wrong_credentials_are_refused_before_anything_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    """Also where connecting needs none; and nothing is created on a server that is only asked."""
    monkeypatch.setattr(milvus_collection, "_CONNECTING", 1.0)
    own = Server(tmp_path / "server", credentials="me:right", is_open=is_open)
    monkeypatch.setenv("MILVUS_USER", "me")
    monkeypatch.setenv("MILVUS_PASSWORD", "wrong")
    with pytest.raises(UserError, match="that MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD, are those of") as error:
        Milvus(uri=own.uri).check(None, 8)
    assert "wrong" not in str(error.value)
    monkeypatch.setenv("MILVUS_PASSWORD", "right")
    Milvus(uri=own.uri).check(None, 8)
    assert not own.collections()
    own.stop()


@pytest.mark.parametrize("name", ["milvus", "milvus_sparse", "muvera", "sharded"])
def test_a_depth_beyond_what_milvus_returns_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer results would seem to be all; up to the limit, results are exact even where scores are equal."""
    made: dict[str, Callable[[], Index]] = {
        "milvus": Milvus,
        "milvus_sparse": MilvusSparse,
        "muvera": lambda: Muvera(Milvus(), repetitions=2, signs=2, search=MuveraSearch(0)),
        "sharded": lambda: Sharded(Milvus(), parts=2),
    }
    monkeypatch.setattr(milvus, "MOST_RESULTS", 100)
    monkeypatch.setattr(milvus_collection, "MOST_RESULTS", 100)
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0)
    index = built(made[name](), encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert index.most_results == 84
    for depth in (84, 200):
        with pytest.raises(UserError, match=r"Milvus returns at most \d+ results per query, .* set search\.depth to"):
            rank(index, vectors_of(case, 4, 1), depth, doc_ids=IDS)
    ranked = rank(index, vectors_of(case, 4, 1), 60, doc_ids=IDS)  # of which more are asked for where scores are equal
    best = rank(exact(case, documents), vectors_of(case, 4, 1), 60, doc_ids=IDS)
    assert [len(each) for each in ranked] == [len(each) for each in best] if name == "muvera" else ranked == best
    with pytest.raises(UserError, match="Milvus returns at most"):  # where documents are left out, more are needed
        rank(index, vectors_of(case, 4, 1), 60, doc_ids=IDS, excluded=frozenset(IDS[:200]))


def test_equal_scores_beyond_the_limit_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which of them are the best by their ids is not known; a collection without more documents has no such limit."""
    monkeypatch.setattr(milvus, "MOST_RESULTS", 100)
    same = np.ones((COUNT, 8), np.float32)
    index = built(Milvus(), encode(tmp_path / "encoding", same), tmp_path / "index")
    assert len(rank(index, same[:2], 50, doc_ids=IDS)[0]) == 50
    assert "2 queries have more equal scores at their end than the engine returns" in caplog.text
    few = built(Milvus(), encode(tmp_path / "few encoding", same[:90]), tmp_path / "few")
    assert [len(each) for each in rank(few, same[:2], 20000, doc_ids=IDS)] == [90, 90]


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on another disk than the artifacts; what was copied is removed."""
    index = Milvus()
    built(index, encode(tmp_path / "encoding", vectors_of(ENGINES["milvus"], 30, 0)), tmp_path / "index")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def full(source: str, target: str, **_: object) -> None:
        Path(target).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    with monkeypatch.context() as patch, pytest.raises(UserError) as error:
        patch.setattr(shutil, "copyfile", full)
        index.load(tmp_path / "index")
    assert f"could not be made in {tmp_path / 'tmp'} ([Errno 28] No space left on device" in str(error.value)
    assert str(error.value).endswith("name a folder on another disk by the environment variable TMPDIR")
    assert not list((tmp_path / "tmp").iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(
        UserError, match=r"Milvus Lite searches a temporary copy of .*, which could not be made .*TMPDIR"
    ):
        index.load(tmp_path / "index")
