"""Collections of ir_datasets, on one that is registered here, since none can be fetched."""

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
        """Where it is."""
        self._path = path

    def path(self, force: bool = True) -> str:
        """Its path."""
        return str(self._path)

    def stream(self) -> object:
        """Its bytes."""
        return self._path.open("rb")


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[str]:
    """A collection of two documents."""
    with _registered(tmp_path, "d1\tone\nd2\ttwo words\n") as name:
        yield name


@contextmanager
def _registered(tmp_path: Path, docs: str) -> Iterator[str]:
    """A collection of some documents, a query and a judgement under the id irexp-toy."""
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


def test_documents_and_topics(toy: str) -> None:
    """Texts, ids and judgements as ir_datasets has them."""
    assert list(IrdsDocuments(toy)) == [Document("d1", "one"), Document("d2", "two words")]
    assert list(IrdsTopics(toy).queries()) == [Query("q1", "question")]
    assert list(IrdsTopics(toy).qrels()) == [Qrel("q1", "d2", 1)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_look_up_in_a_forked_process_moves_nothing_in_this_one(tmp_path: Path) -> None:
    """As in workers that are forked after the store was opened: the next document, half in the buffer, is read whole.

    A document fills a buffer of the file; the second begins in the buffer that the first was read into.
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


def test_documents_are_handed_to_another_process_without_their_open_files(toy: str) -> None:
    """After a look-up they can be pickled, as for a process that is spawned."""
    documents = IrdsDocuments(toy)
    assert documents.get_many(["d1"]) == {"d1": Document("d1", "one")}
    assert pickle.loads(pickle.dumps(documents)).get_many(["d2"]) == {"d2": Document("d2", "two words")}
    assert documents.get_many(["d2"]) == {"d2": Document("d2", "two words")}


def test_what_a_collection_lacks(toy: str) -> None:
    """No triples: the message names the part."""
    with pytest.raises(DataError, match="the collection irexp-toy of ir_datasets has no docpairs"):
        list(IrdsExamples(toy).lines())


def test_a_typo_gets_the_nearest_ids() -> None:
    """The registry is known without a network."""
    with pytest.raises(DataError, match=r"did you mean .*beir/scifact"):
        IrdsDocuments("bier/scifact").count()
