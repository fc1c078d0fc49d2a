"""Further sets of validation queries."""

from __future__ import annotations

from pathlib import Path

from irexp.dataset.irds_part import IrdsPart
from irexp.dataset.validation_set import IrdsValidationSet, LocalValidationSet
from irexp.types import Document, Qrel, Query


def test_a_collection_of_ir_datasets_lists_all_that_a_validation_reads() -> None:
    """What stage=prepare does not fetch would be missing on a machine without a network."""
    made = IrdsValidationSet("vaswani", remove_query=True)
    assert made.resources() == [IrdsPart("vaswani", part) for part in ("docs", "queries", "qrels")]
    assert made.topics.remove_query and made.topics.relevance is None


def test_files_are_a_validation_set(tmp_path: Path) -> None:
    """Only judged queries are used."""
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "a cup"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "cup"}\n{"_id": "q2", "text": "tree"}\n')
    (tmp_path / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    paths = [str(tmp_path / name) for name in ("corpus.jsonl", "queries.jsonl", "dev.tsv")]
    made = LocalValidationSet(*paths, relevance=1)
    assert made.documents is not None
    assert (list(made.documents), list(made.topics.queries())) == ([Document("d1", "a cup")], [Query("q1", "cup")])
    assert (list(made.topics.qrels()), made.topics.relevance) == ([Qrel("q1", "d1", 1)], 1)
