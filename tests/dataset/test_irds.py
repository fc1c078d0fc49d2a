"""Collections of ir_datasets, tested on one that is registered here, since tests cannot download any."""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from ir_datasets.formats import TsvDocPairs
from ir_datasets.util import Download, RequestsDownload

from irexp.dataset.collection import DataError
from irexp.dataset.irds import IrdsDocuments, IrdsExamples, IrdsScoredDocs, IrdsTopics
from irexp.dataset.irds_part import IrdsPart
from irexp.types import Document, Qrel, Query, ScoredDoc
from tests.irds import UNREACHABLE, registered, served


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[str]:
    """A collection of two documents."""
    with registered(tmp_path, "d1\tone\nd2\ttwo words\n") as name:
        yield name


def test_documents_queries_and_judgements_are_read(toy: str) -> None:
    """Texts, ids and grades are those of ir_datasets."""
    assert list(IrdsDocuments(toy)) == [Document("d1", "one"), Document("d2", "two words")]
    assert list(IrdsTopics(toy).queries()) == [Query("q1", "question")]
    assert list(IrdsTopics(toy).qrels()) == [Qrel("q1", "d2", 1)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_look_up_in_a_forked_process_does_not_move_the_position_in_this_one(tmp_path: Path) -> None:
    """Workers forked after the store was opened must not share its file position, or the next document is garbled.

    Documents are as long as the file's buffer, so that the second begins in the buffer of the first.
    """
    texts = [random.Random(n).randbytes(4000).hex() for n in range(50)]
    with registered(tmp_path, "".join(f"d{n}\t{text}\n" for n, text in enumerate(texts))) as toy:
        documents = IrdsDocuments(toy)
        assert documents.get_many(["d0"])["d0"].text == texts[0]
        worker = multiprocessing.get_context("fork").Process(target=documents.get_many, args=(["d30"],))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        assert documents.get_many(["d1"])["d1"].text == texts[1]


def test_documents_can_be_pickled_after_a_look_up(toy: str) -> None:
    """Open files cannot be pickled, and a spawned process opens its own."""
    documents = IrdsDocuments(toy)
    assert documents.get_many(["d1"]) == {"d1": Document("d1", "one")}
    assert pickle.loads(pickle.dumps(documents)).get_many(["d2"]) == {"d2": Document("d2", "two words")}
    assert documents.get_many(["d2"]) == {"d2": Document("d2", "two words")}


def test_a_collection_without_triples_is_named(toy: str) -> None:
    """The message names the missing part, rather than an attribute of ir_datasets."""
    with pytest.raises(DataError, match="the collection irexp-toy of ir_datasets has no docpairs"):
        list(IrdsExamples(toy).lines())


def test_an_unknown_id_gets_similar_ids() -> None:
    """The suggestion comes from ir_datasets' registry and needs no network."""
    with pytest.raises(DataError, match=r"did you mean .*beir/scifact"):
        IrdsDocuments("bier/scifact").count()


def test_scoreddocs_are_read(tmp_path: Path) -> None:
    """With six columns they have scores; with two, as MS MARCO's, all get 0."""
    with registered(tmp_path, "d1\tone\n", scoreddocs="q1 Q0 d1 1 2.5 x\n") as toy:
        assert list(IrdsScoredDocs(toy)) == [ScoredDoc("q1", "d1", 2.5)]
    with registered(tmp_path, "d1\tone\n", scoreddocs="q1\td1\n") as toy:
        assert list(IrdsScoredDocs(toy)) == [ScoredDoc("q1", "d1", 0.0)]


def test_a_collection_without_scoreddocs_is_named_with_the_way_out(toy: str) -> None:
    """The message says what to re-rank instead."""
    with pytest.raises(DataError, match=r"irexp-toy of ir_datasets has no scoreddocs; .*re_rank=bm25"):
        list(IrdsScoredDocs(toy))


def test_a_part_is_downloaded_once_and_then_read_from_this_machine(tmp_path: Path) -> None:
    """ir_datasets downloads from a server here; once that is gone, the part is still there, with its bytes."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "pairs").write_text("q1\td1\td2\n")
    with served(tmp_path / "remote") as url:
        cached = Download([RequestsDownload(f"{url}/pairs", tries=1)], cache_path=str(tmp_path / "cache" / "pairs"))
        with registered(tmp_path, "d1\tone\n", TsvDocPairs(cached)) as toy:
            part = IrdsPart(toy, "docpairs")
            assert not part.is_here()
            assert not (tmp_path / "cache" / "pairs").exists()
            part.fetch()
    with registered(tmp_path, "d1\tone\n", TsvDocPairs(cached)) as toy:
        assert part.is_here()
        assert part.bytes_here() == len("q1\td1\td2\n")
        assert [ids for _, ids, _ in IrdsExamples(toy).lines()] == [["q1", "d1", "d2"]]


def test_documents_are_here_once_their_store_is_built(toy: str) -> None:
    """Asking whether they are builds nothing."""
    part = IrdsPart(toy, "docs")
    assert [part.is_here(), part.is_here()] == [False, False]
    part.fetch()
    assert part.is_here()
    assert (part.bytes_here() or 0) > 0


def test_a_failed_download_is_one_line(tmp_path: Path) -> None:
    """With one source ir_datasets raises the error of the connection itself, which is not a RuntimeError."""
    cached = Download([RequestsDownload(UNREACHABLE, tries=1)], cache_path=str(tmp_path / "never" / "pairs"))
    with registered(tmp_path, "d1\tone\n", TsvDocPairs(cached)) as toy:
        for read in (IrdsPart(toy, "docpairs").fetch, lambda: list(IrdsExamples(toy).lines())):
            with pytest.raises(DataError, match="files of irexp-toy cannot be downloaded") as error:
                read()
            assert "\n" not in str(error.value)
