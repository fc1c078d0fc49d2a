"""What may be given as texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.in_memory import TextDocuments, TextExamples, TextTopics
from irexp.dataset.sources import open_topics
from irexp.types import Document, Qrel, Query
from tests.text_files import write

TEXTS = ["list the cup", "delete a tree"]


def test_a_series_of_pandas_gives_its_index_as_ids() -> None:
    """Its positions would not be the ids of the judgements; whole numbers are ids, too."""
    pandas: Any = pytest.importorskip("pandas")
    assert list(TextDocuments(pandas.Series(TEXTS, index=["d7", "d9"]))) == [
        Document("d7", TEXTS[0]),
        Document("d9", TEXTS[1]),
    ]
    assert list(TextTopics(pandas.Series(TEXTS, index=[4, 2])).queries()) == [
        Query("4", TEXTS[0]),
        Query("2", TEXTS[1]),
    ]
    assert [document.doc_id for document in TextDocuments(pandas.Series(TEXTS))] == ["0", "1"]
    with pytest.raises(DataError, match="two documents have the id 'd7'"):
        TextDocuments(pandas.Series(TEXTS, index=["d7", "d7"]))
    with pytest.raises(DataError, match="both are strings"):
        TextDocuments(pandas.Series(["list the cup", None]))


def test_a_table_of_pandas_is_refused() -> None:
    """Its column names would be the texts."""
    pandas: Any = pytest.importorskip("pandas")
    table = pandas.DataFrame({"doc_id": ["d7", "d9"], "text": TEXTS})
    with pytest.raises(DataError, match=r"dict\(zip\(table\['doc_id'\], table\['text'\]\)\)"):
        TextDocuments(table)
    with pytest.raises(DataError, match=r"dict\(zip\(table\['query_id'\]"):
        TextTopics(table)
    assert TextDocuments(dict(zip(table["doc_id"], table["text"], strict=True))).count() == 2


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_refused(kind: Any) -> None:
    """The order of its texts, and so their ids, would be another in each process."""
    with pytest.raises(DataError, match=r"is a set, .* pass a list"):
        TextDocuments(kind(TEXTS))
    with pytest.raises(DataError, match=r"is a set, .* pass a list"):
        TextTopics(kind(TEXTS))


def test_judgements_may_be_records_of_ir_measures() -> None:
    """Which have an iteration beside query, document and grade."""
    judged: Any = [ir_measures.Qrel("0", "d1", 2), ir_measures.Qrel("1", "d1", 0, "Q0")]
    topics = TextTopics(TEXTS, judged)
    assert list(topics.qrels()) == [Qrel("0", "d1", 2), Qrel("1", "d1", 0)]


def test_judged_ids_are_texts_or_whole_numbers() -> None:
    """As ids are in files; a document that is named twice counts once."""
    judged: Any = {1: [3, "3", np.int64(4)], "q2": {" d1 ": 2}, "q3": np.array(["d1"])}
    found = [Qrel("1", "3", 1), Qrel("1", "4", 1), Qrel("q2", "d1", 2), Qrel("q3", "d1", 1)]
    assert list(TextTopics(TEXTS, judged).qrels()) == found
    assert {type(part) for qrel in found for part in qrel[:2]} == {str}


@pytest.mark.parametrize(
    ("judged", "message"),
    [
        (
            {"q1": [("d1", 2)]},
            r"the document \('d1', 2\), but an id is a text or a whole number; write .* grades",
        ),
        ({"q1": [["d1", 2]]}, r"has the document \['d1', 2\]"),
        ({"q1": [None]}, "has the document None"),
        ({"q1": [b"d1"]}, "has the document b'd1'"),
        ({"q1": [1.0]}, r"has the document 1\.0"),
        ({"q1": [True]}, "has the document True"),
        ({"q1": {"": 1}}, "has the document '': the id is empty"),
        ({None: ["d1"]}, "has the query None"),
        ([(None, "d1", 1)], "has the query None"),
        ({"q1": 5}, "the judgements of 'q1' are 5, which is not a list of documents; write"),
        ({"q1": None}, "the judgements of 'q1' are None"),
        ({"q1": "d1"}, "the judgements of 'q1' are 'd1'"),
        ({"q1": b"d1"}, "the judgements of 'q1' are b'd1'"),
        (5, "5 is not judgements; write"),
    ],
)
def test_wrong_judgements_are_named(judged: Any, message: str) -> None:
    """An id made of something else would be that of no document."""
    with pytest.raises(DataError, match=message):
        TextTopics(TEXTS, judged)


@pytest.mark.parametrize("kind", [str, Path])
def test_judgements_may_be_a_file(tmp_path: Path, kind: Any) -> None:
    """Of texts, and of a file of queries."""
    qrels = kind(write(tmp_path / "r.tsv", "1\td1\t2\n"))
    assert list(TextTopics(TEXTS, qrels).qrels()) == [Qrel("1", "d1", 2)]
    topics = open_topics(kind(write(tmp_path / "q.tsv", "0\tcup\n1\ttree\n")), qrels)
    assert (list(topics.queries()), list(topics.qrels())) == ([Query("1", "tree")], [Qrel("1", "d1", 2)])


def test_a_file_of_queries_may_have_judgements_in_memory(tmp_path: Path) -> None:
    """Only judged queries are used, as of a folder."""
    queries = write(tmp_path / "q.tsv", "0\tcup\n1\ttree\n")
    topics = open_topics(queries, {"1": ["d1"], "2": ["d1"]})
    assert list(topics.queries()) == [Query("1", "tree")]
    assert list(topics.qrels()) == [Qrel("1", "d1", 1), Qrel("2", "d1", 1)]
    with pytest.raises(DataError, match=r"q\.tsv has none of the judged queries, such as 'q1'"):
        open_topics(queries, {"q1": ["d1"]})
    with pytest.raises(DataError, match=r"has its own judgements; .* of texts or of a file of queries"):
        open_topics(tmp_path, {"q1": ["d1"]})


def texts(examples: TextExamples) -> list[list[str]]:
    """The texts of all examples, the queries' first."""
    found = [examples[position] for position in range(len(examples))]
    document_of = examples.documents.get_many(examples.doc_ids())
    return [[one.query.text, *(document_of[doc_id].text for doc_id in one.doc_ids)] for one in found]


def test_training_examples_may_be_dictionaries_and_come_from_a_generator() -> None:
    """As the rows of a table of pandas or of Hugging Face's datasets; else their keys would be the texts."""
    rows: list[dict[str, Any]] = [{"query": "a", "positive": "b"}, {"anchor": "c", "pos": ["d", "e"], "neg": ["f"]}]
    assert texts(TextExamples(rows)) == [["a", "b"], ["c", "d", "f"], ["c", "e", "f"]]
    pairs: list[Sequence[str]] = [("a", "b"), ["c", "d"]]
    assert texts(TextExamples(iter(pairs))) == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([{"a", "b"}], "training example 0: .* is not a list or tuple of texts"),
        ([("a", "b"), {"query": "a", "answer": "b"}], "training example 1: .*it has no documents, only query, answer"),
        ([{"query": "a", "positive_document_ids": ["1"]}], "training example 0"),
        ([{"query": "a", 0: "b"}], "training example 0"),
        ([{"query": "a", "positive": None}], "training example 0"),
        ([{"query": "a", "pos": ["b"], "neg": ["c"], "scores": [2, 1]}], "has scores or a prompt, .*TextFileExamples"),
        ([{"query": "a", "pos": ["b"], "prompt": "find: "}], "has scores or a prompt, .*TextFileExamples"),
        ({("a", "b"), ("c", "d")}, "is a set, .* pass a list$"),
        (np.array([["a", "b"], ["c", "d"]]), "training example 0: .* is not a list or tuple of texts"),
        (iter(()), "there are no training examples"),
        (None, "there are no training examples"),
    ],
)
def test_what_is_not_a_training_example_is_named(examples: Any, message: str) -> None:
    """A set has another order in each process, and the truth of an array is ambiguous."""
    with pytest.raises(DataError, match=message):
        TextExamples(examples)


def test_a_table_of_training_examples_is_refused() -> None:
    """Its column names would be the examples."""
    pandas: Any = pytest.importorskip("pandas")
    table = pandas.DataFrame({"query": ["a"], "positive": ["b"]})
    with pytest.raises(DataError, match=r"such as list\(zip\(table\['query'\], table\['positive'\]\)\)"):
        TextExamples(table)
    assert texts(TextExamples(table.to_dict("records"))) == [["a", "b"]]
