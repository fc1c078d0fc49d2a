"""Collections of ir_datasets, tested on one that is registered here, since tests cannot download any."""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ir_datasets
import pytest
from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries

from irexp.dataset.collection import DataError
from irexp.dataset.irds import IrdsDocuments, IrdsExamples, IrdsTopics
from irexp.types import Document, Qrel, Query


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


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[str]:
    """A collection of two documents."""
    with _registered(tmp_path, "d1\tone\nd2\ttwo words\n") as name:
        yield name


@contextmanager
def _registered(tmp_path: Path, docs: str) -> Iterator[str]:
    """A collection with documents, one query and one judgement, registered as irexp-toy."""
    (tmp_path / "docs.tsv").write_text(docs)
    (tmp_path / "queries.tsv").write_text("q1\tquestion\n")
    (tmp_path / "qrels").write_text("q1 0 d2 1\n")
    dataset = ir_datasets.Dataset(
        TsvDocs(LocalFile(tmp_path / "docs.tsv"), namespace="irexp", lang="en"),
        TsvQueries(LocalFile(tmp_path / "queries.tsv"), namespace="irexp", lang="en"),
        TrecQrels(LocalFile(tmp_path / "qrels"), {1: "relevant"}),
    )
    ir_datasets.registry.register("irexp-toy", dataset)
    try:
        yield "irexp-toy"
    finally:
        ir_datasets.registry._registered.pop("irexp-toy")


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
    with _registered(tmp_path, "".join(f"d{n}\t{text}\n" for n, text in enumerate(texts))) as toy:
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
