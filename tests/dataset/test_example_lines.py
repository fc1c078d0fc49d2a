"""What a line of training examples says: its keys, labels, grades, pairs with scores, scores in columns, headers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from irexp.dataset.collection import DataError, Examples
from irexp.dataset.example_lines import is_header, json_examples
from irexp.dataset.examples import FileExamples
from irexp.dataset.in_memory import TextTopics
from irexp.dataset.text_examples import TextFileExamples, id_of
from tests.text_files import write

TOPICS = TextTopics({"1": "one", "2": "two", "1.0": "float"})


def lines(*objects: object) -> str:
    """JSON lines."""
    return "".join(json.dumps(each) + "\n" for each in objects)


@pytest.mark.parametrize(
    "fields",
    [
        {"positive": "p", "negatives": ["n", "m"]},
        {"positives": ["p"], "negatives": ["n", "m"]},
        {"positives": ["p"], "neg": ["n", "m"]},
        {"pos": ["p"], "hard_neg": ["n", "m"]},
        {"positive": "p", "hard_negative": ["n", "m"]},
        {"positive": "p", "hard_negative_1": "n", "hard_negative_2": "m"},
        {"positive": "p", "negative": "n", "negative_1": "m", "negative_ids": ["7", "8"], "positive_id": "9"},
        {"pos": ["p"], "neg": ["n", "m"], "position": 3},
    ],
)
def test_negatives_are_found_under_the_usual_names(fields: dict[str, Any]) -> None:
    """In singular and plural; ids beside the texts are not read."""
    assert [one.texts for one in json_examples(lines({"query": "q", **fields}))] == [["q", "p", "n", "m"]]


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"positive": "p", "positive_1": "o", "negative": "n"}, "positive_1"),
        ({"positive": "p", "positive_scores": [1.5], "negative": "n"}, "positive_scores"),
        ({"pos": ["p"], "neg": ["n"], "hard_neg": ["m"]}, "hard_neg"),
        ({"pos": ["p"], "negative_docs": ["m"]}, "negative_docs"),
        ({"positive": "p", "negative_ids": ["m"]}, "negative_ids"),
        ({"documents": ["p", "o"], "scores": [2.5, 1], "neg": ["n"]}, "neg"),
    ],
)
def test_a_key_that_looks_like_positives_or_negatives_is_not_ignored(
    tmp_path: Path, fields: dict[str, Any], key: str
) -> None:
    """It is named with file and line, since its documents would be lost."""
    path = write(tmp_path / "t.jsonl", lines({"query": "q", "pos": ["p"]}, {"query": "q", **fields}))
    with pytest.raises(DataError, match=rf"t\.jsonl:2: .*its key {key} is not read beside"):
        len(TextFileExamples(path))


@pytest.mark.parametrize(
    "fields",
    [
        {"positive_document_ids": ["12"], "negative_document_ids": ["13"]},
        {"pos": ["12"], "negative_document_ids": ["13"]},
        {"document_ids": ["12", "13"], "scores": [1.0, 0.2]},
        {"doc_ids": ["12", "13"], "labels": [1, 0]},
    ],
)
def test_ids_are_not_trained_on_as_texts(tmp_path: Path, fields: dict[str, Any]) -> None:
    """The keys say that they are ids."""
    path = write(tmp_path / "t.jsonl", lines({"query_id": "1", "query": "q", **fields}))
    with pytest.raises(DataError, match=r"t\.jsonl:1: its documents are ids, not texts; .* dataset=triples"):
        len(TextFileExamples(path))


def test_scores_of_several_positives_make_an_example_of_each() -> None:
    """So none is a negative of another, as with pos_scores."""
    fields = {"query": "q", "pos": ["p", "o"], "neg": ["n"], "scores": [1.0, 3.0, 2.0]}
    found = [(one.documents, one.scores) for one in json_examples(lines(fields))]
    assert found == [(["p", "n"], [1.0, 2.0]), (["o", "n"], [3.0, 2.0])]


@pytest.mark.parametrize("fields", [{"positive": "p", "label": 0}, {"pos": ["p"], "neg": ["n"], "labels": [0, 1]}])
def test_a_positive_with_the_label_0_is_refused(fields: dict[str, Any]) -> None:
    """It is not relevant; with the label 1 it is."""
    with pytest.raises(ValueError, match=r"it has no positive: the labels? of its pos"):
        json_examples(lines({"query": "q", **fields}))
    assert json_examples(lines({"query": "q", "positive": "p", "label": 1}))[0].scores == [1.0]


@pytest.mark.parametrize(
    ("pairs", "documents", "scores"),
    [
        ([[5.5, 12], [4, 13]], [12, 13], [5.5, 4.0]),
        ([[5, 12], [4.5, 13]], [12, 13], [5.0, 4.5]),
        ([[5, "12"], [4, "13"]], ["12", "13"], [5.0, 4.0]),
        ([[12, 5], [13, 4]], [12, 13], [5.0, 4.0]),
        ([[12, 5.5], [13, 4]], [12, 13], [5.5, 4.0]),
        ([["a", 0.5], [-1.5, "b"]], ["a", "b"], [0.5, -1.5]),
    ],
)
def test_all_numbers_of_a_line_are_pairs_in_one_order(
    pairs: list[list[object]], documents: list[object], scores: list[float]
) -> None:
    """A whole score beside one with a decimal point is a score, too."""
    (found,) = json_examples(lines(["q", *pairs]))
    assert (found.documents, found.scores) == (documents, scores)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.0\td1\td2\n1.0\td3\td4\n", [("1.0", ("d1", "d2")), ("1.0", ("d3", "d4"))]),
        ("3.5\t2\t1\td1\td2\n12\t11.5\t1\td1\td2\n", [("1", ("d1", "d2"))] * 2),
        ("3.5\t1\td1\n", [("1", ("d1",))]),
    ],
)
def test_numbers_in_the_first_column_are_scores_unless_they_are_queries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    """Which is decided for the whole file, and logged once."""
    with caplog.at_level(logging.INFO):
        examples = FileExamples(write(tmp_path / "t.tsv", text), topics=TOPICS)
        assert [(one.query.query_id, one.doc_ids) for one in every(examples)] == expected
    kind = "queries" if expected[0][0] == "1.0" else "a teacher's scores"
    assert caplog.text.count(f"numbers in the first column, such as {text.split()[0]}, are {kind}") == 1


def test_a_number_among_texts_is_a_query(tmp_path: Path) -> None:
    """If most lines begin with other texts."""
    path = write(tmp_path / "t.tsv", "what is pi\ta\tb\n3.14\tvalue of pi\tvalue of e\n")
    assert [one.query.text for one in every(TextFileExamples(path))] == ["what is pi", "3.14"]
    path = write(tmp_path / "s.tsv", "score\tnext\tquery\ta\tb\n" + "3.5\t2.5\tq\tp\tn\n" * 3)
    with pytest.raises(DataError, match=r"s\.tsv:1: .*could not convert string to float: 'score'"):
        len(TextFileExamples(path))


def every(examples: Examples) -> list[Any]:
    """All examples."""
    return [examples[position] for position in range(len(examples))]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.jsonl", '["query","positive","negative"]\n["a","b","c"]\n'),
        ("t.tsv", "question\tanswer\na\tb\n"),
        ("t.tsv", "anchor\tpositives\thard_negative_1\na\tb\tc\n"),
    ],
)
def test_a_header_is_not_an_example(tmp_path: Path, name: str, text: str) -> None:
    """Of columns with the usual names, and of JSON lists."""
    with pytest.raises(DataError, match=rf"{name}:1: this is a header"):
        len(TextFileExamples(write(tmp_path / name, text)))
    assert not is_header(["question", "answer the question"])
    assert is_header(["score", "score", "query", "positive", "negative"])


GRADED = {"query": "a", "documents": ["n", "p", "o"], "scores": [0, 2, 1]}


def test_all_documents_of_a_grade_above_0_are_relevant(tmp_path: Path) -> None:
    """Of texts and of ids; a teacher's scores say it of the best one alone."""
    relevant = {id_of("p"), id_of("o")}
    graded = TextFileExamples(write(tmp_path / "t.jsonl", lines(GRADED, {**GRADED, "query": "b"})))
    assert [graded.relevant_doc_ids(id_of(query)) for query in "ab"] == [relevant] * 2
    scored = TextFileExamples(write(tmp_path / "s.jsonl", lines(GRADED, {**GRADED, "scores": [0.5, 2, 1]})))
    assert scored.relevant_doc_ids(id_of("a")) == {id_of("p")}
    named = {"query_id": "1", "document_ids": ["n", "p", "o"], "scores": [0, 2, 1]}
    assert FileExamples(write(tmp_path / "i.jsonl", lines(named)), topics=TOPICS).relevant_doc_ids("1") == {"p", "o"}
    mixed = lines(named, {**named, "scores": [0, 2.5, 1]})
    assert FileExamples(write(tmp_path / "m.jsonl", mixed), topics=TOPICS).relevant_doc_ids("1") == {"p"}
    negatives = lines({"query": "a", "pos": ["p"], "neg": ["o", "n"], "scores": [3, 1, 2]})
    assert TextFileExamples(write(tmp_path / "n.jsonl", negatives)).relevant_doc_ids(id_of("a")) == {id_of("p")}


def test_a_list_of_grades_without_a_relevant_document_is_named(tmp_path: Path) -> None:
    """Its first document would be the positive; in a file of a teacher's scores 0 is one as any."""
    without = {**GRADED, "scores": [0, 0, 0]}
    with pytest.raises(DataError, match=r"t\.jsonl:2: none of its documents has a grade above 0"):
        len(TextFileExamples(write(tmp_path / "t.jsonl", lines(GRADED, without))))
    named = {"query_id": "1", "document_ids": ["n", "p"], "scores": [0, 0]}
    with pytest.raises(DataError, match=r"i\.jsonl:1: none of its documents has a grade above 0"):
        len(FileExamples(write(tmp_path / "i.jsonl", lines(named)), topics=TOPICS))
    scored = lines({**GRADED, "scores": [0.5, 2, 1]}, without)
    assert len(TextFileExamples(write(tmp_path / "s.jsonl", scored))) == 2


@pytest.mark.parametrize("doc_id", ["-1", "1_2", " 1", "0x" + "a" * 30, "A" * 32])
def test_an_id_that_no_text_has_is_unknown(tmp_path: Path, doc_id: str) -> None:
    """Whatever numbers Python reads in it."""
    examples = TextFileExamples(write(tmp_path / "t.jsonl", lines(GRADED)))
    assert examples.documents.get_many([doc_id]) == {}
    assert examples.relevant_doc_ids(doc_id) == frozenset()


def test_the_positives_of_a_query_of_many_lines_are_known_without_reading_these(tmp_path: Path) -> None:
    """Which took a second for each query of a batch."""
    rows = [{"query": "ab"[n % 2], "pos": [f"text {n % 500}"], "neg": ["n"]} for n in range(2000)]
    examples = TextFileExamples(write(tmp_path / "t.jsonl", lines(*rows)))
    assert len(examples) == 2000
    examples._line = lambda *_: pytest.fail("a line is read")  # type: ignore[assignment]
    assert examples.relevant_doc_ids(id_of("a")) == {id_of(f"text {n}") for n in range(0, 500, 2)}
