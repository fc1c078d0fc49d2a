"""Collections of ir_datasets, on one that is registered here, since none can be fetched."""

from __future__ import annotations

from collections.abc import Iterator
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
    """A collection of two documents under the id irexp-toy."""
    (tmp_path / "docs.tsv").write_text("d1\tone\nd2\ttwo words\n")
    (tmp_path / "queries.tsv").write_text("q1\tquestion\n")
    (tmp_path / "qrels").write_text("q1 0 d2 1\n")
    dataset = ir_datasets.Dataset(
        TsvDocs(LocalFile(tmp_path / "docs.tsv"), namespace="irexp", lang="en"),
        TsvQueries(LocalFile(tmp_path / "queries.tsv"), namespace="irexp", lang="en"),
        TrecQrels(LocalFile(tmp_path / "qrels"), {1: "relevant"}),
    )
    ir_datasets.registry.register("irexp-toy", dataset)
    yield "irexp-toy"
    ir_datasets.registry._registered.pop("irexp-toy")


def test_documents_and_topics(toy: str) -> None:
    """Texts, ids and judgements as ir_datasets has them."""
    assert list(IrdsDocuments(toy)) == [Document("d1", "one"), Document("d2", "two words")]
    assert list(IrdsTopics(toy).queries()) == [Query("q1", "question")]
    assert list(IrdsTopics(toy).qrels()) == [Qrel("q1", "d2", 1)]


def test_what_a_collection_lacks(toy: str) -> None:
    """No triples: the message names the part."""
    with pytest.raises(DataError, match="the collection irexp-toy of ir_datasets has no docpairs"):
        list(IrdsExamples(toy).lines())


def test_a_typo_gets_the_nearest_ids() -> None:
    """The registry is known without a network."""
    with pytest.raises(DataError, match=r"did you mean .*beir/scifact"):
        IrdsDocuments("bier/scifact").count()
