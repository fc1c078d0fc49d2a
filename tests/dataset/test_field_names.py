"""Which fields and columns of a file are the id and the text of a document or query."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.types import Document, Query
from tests.text_files import write


@pytest.mark.parametrize(
    ("name", "text", "query"),
    [
        ("q.csv", "qid,query,passage\nq7,who,a page\n", Query("q7", "who")),
        ("q.csv", "qid,passage,query\nq7,a page,who\n", Query("q7", "who")),
        ("q.tsv", "qid\tpid\tquery\tpassage\nq7\tp1\twho\ta page\n", Query("q7", "who")),
        ("q.jsonl", '{"docid": "D1", "qid": "q7", "query": "who"}\n', Query("q7", "who")),
        ("q.jsonl", '{"id": 5, "query_id": "q7", "question": "who", "text": "a page"}\n', Query("q7", "who")),
        ("q.jsonl", '{"id": "q7", "title": "Page", "query": "who"}\n', Query("q7", "who")),
        ("q.jsonl", '{"id": "q7", "query": "", "text": "a page"}\n', Query("q7", "")),
        ("q.jsonl", '{"_id": "q7", "text": "who"}\n', Query("q7", "who")),
    ],
)
def test_a_query_is_not_the_document_beside_it(tmp_path: Path, name: str, text: str, query: Query) -> None:
    """A row that names a document, or holds its title or text, is searched by the query and answers its id."""
    assert list(LocalTopics(write(tmp_path / name, text)).queries()) == [query]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ('"text": "", "body": "real"', "real"),
        ('"text": " ", "contents": null, "abstract": "real"', "real"),
        ('"text": null, "query": "who"', ""),
        ('"query": "who", "doc_text": "real"', "real"),
        ('"title": "", "headline": "News", "text": "real"', "News real"),
        ('"text": "", "body": ""', ""),
    ],
)
def test_a_document_has_the_first_text_that_is_not_empty(tmp_path: Path, fields: str, text: str) -> None:
    """Among the names of documents; a query beside it is not its text."""
    path = write(tmp_path / "c.jsonl", f'{{"id": "d1", {fields}}}\n')
    assert list(LocalDocuments(path)) == [Document("d1", text)]


def test_chosen_fields_may_be_empty(tmp_path: Path) -> None:
    """No other field takes their place."""
    path = write(tmp_path / "c.jsonl", '{"id": "d1", "text": "", "body": "real"}\n')
    assert list(LocalDocuments(path, text_fields=["text"])) == [Document("d1", "")]


@pytest.mark.parametrize("header", ["doc_id\tcontent", "id\tsentence", "query-id\tutterance", "docno\tone\ttwo"])
def test_a_header_without_a_known_text_is_not_a_document_or_query(tmp_path: Path, header: str) -> None:
    """The message lists the names; a document may have such an id on another line, and others on the first."""
    path = write(tmp_path / "c.tsv", f"{header}\nd1\tfoo\n")
    with pytest.raises(DataError, match=r"c\.tsv:1: .* looks like a header; its .* one of text, .*, or of text_fields"):
        LocalDocuments(path).count()
    with pytest.raises(DataError, match=r"c\.tsv:1: .* looks like a header; its .* one of query, query_text, question"):
        list(LocalTopics(path).queries())
    assert LocalDocuments(write(tmp_path / "d.tsv", f"d1\tfoo\n{header}\n")).count() == 2
    assert LocalDocuments(write(tmp_path / "e.tsv", f"{header.upper()}\nd1\tfoo\n")).count() == 2


@pytest.mark.parametrize(("name", "mark"), [("c.tsv", "\t"), ("c.csv", ",")])
def test_text_fields_name_a_column_of_any_name(tmp_path: Path, name: str, mark: str) -> None:
    """So the first line is a header."""
    path = write(tmp_path / name, "doc_id,content,more\nd1,foo,bar\n".replace(",", mark))
    assert list(LocalDocuments(path, text_fields=["content"])) == [Document("d1", "foo")]


@pytest.mark.parametrize(
    ("name", "text"), [("c.tsv", "d1\tfoo\rd2\tbar\r"), ("c.tsv", "id\ttext\rd1\tfoo"), ("c.csv", "id,text\rd1,foo\r")]
)
def test_line_ends_of_old_macs_are_named(tmp_path: Path, name: str, text: str) -> None:
    """All documents would be one."""
    with pytest.raises(DataError, match=rf"{name}:1: a carriage return \(\\r\) is within the line; if lines end so"):
        LocalDocuments(write(tmp_path / name, text)).count()


def test_a_carriage_return_within_a_text_is_kept(tmp_path: Path) -> None:
    """What follows it has no tab, and so is not a line."""
    assert list(LocalDocuments(write(tmp_path / "c.tsv", "d1\tfoo\rbar\r\n"))) == [Document("d1", "foo\rbar")]


def test_quotes_around_all_columns_are_refused(tmp_path: Path) -> None:
    """No judgement would name such an id; a text in quotes is a text."""
    for text in ('"d1"\t"a ""b"""\n', '"id"\t"text"\n"d1"\t"a"\n'):
        with pytest.raises(DataError, match=r"c\.tsv:1: the columns are in quotes, .* quoting=csv\.QUOTE_NONE"):
            LocalDocuments(write(tmp_path / "c.tsv", text)).count()
    assert list(LocalDocuments(write(tmp_path / "c.tsv", 'd1\t"a"\n'))) == [Document("d1", '"a"')]
