"""Training examples from judgements and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.examples import FileExamples, QrelExamples
from irexp.dataset.in_memory import TextTopics
from irexp.dataset.local import LocalTopics
from irexp.types import Example, Query

QUERIES = "q1\tone\nq2\ttwo\n"


@pytest.fixture
def topics(tmp_path: Path) -> LocalTopics:
    """Two queries; q1 has two relevant documents, q2 one and a judged negative."""
    (tmp_path / "queries.tsv").write_text(QUERIES)
    (tmp_path / "qrels.tsv").write_text("q1\td2\t1\nq1\td1\t2\nq2\td3\t1\nq2\td4\t0\n")
    return LocalTopics(str(tmp_path / "queries.tsv"), qrels_path=str(tmp_path / "qrels.tsv"))


def test_each_relevant_document_makes_an_example(topics: LocalTopics) -> None:
    """A document judged with grade 0 does not make one."""
    examples = QrelExamples(topics)
    assert [examples[i] for i in range(len(examples))] == [
        Example(Query("q1", "one"), ("d1",), (1.0,)),
        Example(Query("q1", "one"), ("d2",), (1.0,)),
        Example(Query("q2", "two"), ("d3",), (1.0,)),
    ]
    assert examples.relevant_doc_ids("q1") == {"d1", "d2"}
    assert examples.doc_ids() == {"d1", "d2", "d3"}


@pytest.mark.parametrize(
    ("relevance", "positives"), [(None, ["d2", "d3"]), (1, ["d2", "d3"]), (2, ["d2"]), (3, None), (0, None), (-1, None)]
)
def test_the_smallest_relevant_grade_decides_what_is_learned(
    relevance: int | None, positives: list[str] | None
) -> None:
    """A judged document below it is neither a positive nor left out as a negative."""
    grades = {"q1": {"d2": 2, "d3": 1, "d4": 0, "d5": -1}}
    examples = QrelExamples(TextTopics({"q1": "one"}, grades, relevance=relevance))
    if positives is None:
        with pytest.raises(DataError, match=r"there are no training examples|grade is at least 1"):
            len(examples)
    else:
        assert [examples[n].doc_ids for n in range(len(examples))] == [(doc_id,) for doc_id in positives]
        assert examples.relevant_doc_ids("q1") == set(positives)


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.tsv", "q1\td1\td8\nq2\td3\td8\td9\n"), ("t.jsonl", '["q1", "d1", "d8"]\n["q2", "d3", "d8", "d9"]\n')],
)
def test_triples_and_longer_lists_are_read(tmp_path: Path, topics: LocalTopics, name: str, text: str) -> None:
    """The first document is the positive; relevant documents come from the file and the judgements."""
    (tmp_path / name).write_text(text)
    examples = FileExamples(str(tmp_path / name), topics=topics)
    assert examples[0] == Example(Query("q1", "one"), ("d1", "d8"), (1.0, 0.0))
    assert examples[1] == Example(Query("q2", "two"), ("d3", "d8", "d9"), (1.0, 0.0, 0.0))
    assert len(examples) == 2
    assert examples.relevant_doc_ids("q1") == {"d1", "d2"}
    assert examples.doc_ids() == {"d1", "d3", "d8", "d9"}


def test_a_query_and_a_document_may_have_the_same_id(tmp_path: Path, topics: LocalTopics) -> None:
    """A query id must not count as a document id: MS MARCO numbers both from zero."""
    (tmp_path / "t.tsv").write_text("q1\tq2\tq1\n")
    examples = FileExamples(str(tmp_path / "t.tsv"), topics=topics)
    assert examples[0].doc_ids == ("q2", "q1")
    assert examples.doc_ids() == {"q1", "q2"}


@pytest.mark.parametrize("pair", ['["d1", 2.5], ["d8", -1.0]', '[2.5, "d1"], [-1.0, "d8"]'])
def test_teacher_scores_of_json_become_the_targets(tmp_path: Path, topics: LocalTopics, pair: str) -> None:
    """The score is recognised whether it is the first or the second of a pair."""
    (tmp_path / "t.jsonl").write_text(f'["q1", {pair}]\n')
    assert FileExamples(str(tmp_path / "t.jsonl"), topics=topics)[0].targets == (2.5, -1.0)


def test_teacher_scores_at_the_beginning_of_a_tsv_line_become_the_targets(tmp_path: Path, topics: LocalTopics) -> None:
    """As in MS MARCO's files of teacher scores, for two documents or more."""
    (tmp_path / "t.tsv").write_text("9.25\t-1.5\tq1\td1\td8\n1.0\t2\t-3e-1\tq2\td3\td8\td9\n")
    examples = FileExamples(str(tmp_path / "t.tsv"), topics=topics)
    assert examples[0] == Example(Query("q1", "one"), ("d1", "d8"), (9.25, -1.5))
    assert examples[1].doc_ids == ("d3", "d8", "d9")
    assert examples[1].targets == pytest.approx((1.0, 2.0, -0.3))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9.25\tq1\td1\td8", "it has 2 scores and 1 documents"),
        ("9.25\t1.0", "it has 1 scores and 0 documents"),
        ("9.25", "it has no document"),
        ("9.25\tnan\tq1\td1\td8", "a score is not finite"),
        ("9.25\thigh\tq1\td1\td8", "could not convert"),
    ],
)
def test_faulty_scores_of_tsv_are_named_with_their_line(
    tmp_path: Path, topics: LocalTopics, line: str, message: str
) -> None:
    """A wrong number of scores, or a score that is not finite, is an error with file and line."""
    (tmp_path / "t.tsv").write_text(f"9.0\t1.0\tq1\td1\td8\n{line}\n")
    with pytest.raises(DataError, match=rf"t\.tsv:2: not a training example \({message}"):
        len(FileExamples(str(tmp_path / "t.tsv"), topics=topics))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["q1", "d1", "d2"]\n{"a": 1}\n', r"t\.jsonl:2: not a training example \(it has no query, only a\)"),
        ('"q1"\n', r"t\.jsonl:1: not a training example \(it is not a list\)"),
        ('["q1"]\n', r"t\.jsonl:1: not a training example \(it has no document\)"),
        ('["q1", "d1", ["d2", 1]]\n', r"t\.jsonl:1: .*some documents have scores"),
        ('["q1", ["d1", 1], "d8"]\n', r"t\.jsonl:1: .*some documents have scores"),
        ('["q1", ["d1", 1], {"d8": 0}]\n', r"t\.jsonl:1: .*some documents have scores"),
        ('["q1", ["d1", 1, 2]]\n', r"t\.jsonl:1: .*some documents have scores"),
        ('["q1", ["d1", "x"]]\n', r"t\.jsonl:1: .*a score is not a number"),
        ('["q1", ["d1", NaN]]\n', r"t\.jsonl:1: .*a score is not finite"),
        ('["q1", ["d1", 1e999]]\n', r"t\.jsonl:1: .*a score is not finite"),
        ('["q1", ["d1", 1' + "0" * 400 + "]]\n", r"t\.jsonl:1: .*too large"),
        ("[" * 100_000 + "\n", r"t\.jsonl:1: .*recursion"),
        ('["q1", "d1"]\n["q1", ["d1", 2]]\n', r"t\.jsonl:2: some examples have scores and some have none"),
        ('["q7", "d1"]\n', r"t\.jsonl:1: the query 'q7' is not among the training queries"),
        ("\n", r"t\.jsonl has no training examples"),
    ],
)
def test_faulty_examples_are_named_with_their_line(
    tmp_path: Path, topics: LocalTopics, text: str, message: str
) -> None:
    """A malformed JSON line, an unknown query or mixed scores are an error with file and line."""
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        len(FileExamples(str(tmp_path / "t.jsonl"), topics=topics))
