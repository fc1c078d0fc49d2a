"""What may be given as texts."""

from __future__ import annotations

from typing import Any

import ir_measures
import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.in_memory import TextDocuments, TextTopics
from irexp.types import Document, Qrel, Query

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
