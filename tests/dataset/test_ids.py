"""All file formats read ids in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.examples import FileExamples
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.dataset.qrels import read_qrels
from irexp.evaluation.run_file import read_run
from irexp.types import UserError, as_id


class Reader(NamedTuple):
    """A file with one id, and a function that reads it."""

    name: str
    content: Callable[[str], str]
    read: Callable[[Path], str]


def document(path: Path) -> str:
    """The id of the only document."""
    return next(iter(LocalDocuments(str(path)))).doc_id


def query(path: Path) -> str:
    """The id of the only query."""
    return next(LocalTopics(str(path)).queries()).query_id


def judged_query(path: Path) -> str:
    """The query of the only judgement."""
    return read_qrels(str(path))[0].query_id


def judged_document(path: Path) -> str:
    """The document of the only judgement."""
    return read_qrels(str(path))[0].doc_id


def example(path: Path) -> str:
    """The first document of the only example, whose query is q."""
    (path.parent / "q.tsv").write_text("q\ttext\n")
    return FileExamples(str(path), topics=LocalTopics(str(path.parent / "q.tsv")))[0].doc_ids[0]


def found_document(path: Path) -> str:
    """The document of the only line of a run."""
    return next(iter(read_run(path))).doc_id


def answered_query(path: Path) -> str:
    """The query of the only line of a run."""
    return next(iter(read_run(path))).query_id


def quoted(text: str) -> str:
    """A quoted CSV field."""
    return '"' + text.replace('"', '""') + '"'


READERS = {
    "documents.jsonl": Reader("c.jsonl", lambda text: json.dumps({"_id": text, "text": "x"}), document),
    "documents.tsv": Reader("c.tsv", lambda text: f"{text}\tx\n", document),
    "documents.tsv with a header": Reader("c.tsv", lambda text: f"id\ttext\n{text}\tx\n", document),
    "documents.csv": Reader("c.csv", lambda text: f"id,text\n{quoted(text)},x\n", document),
    "documents.trec": Reader("c.trec", lambda text: f"<DOC><DOCNO>{text}</DOCNO>x</DOC>", document),
    "queries.jsonl": Reader("q.jsonl", lambda text: json.dumps({"_id": text, "text": "x"}), query),
    "queries.tsv": Reader("q.tsv", lambda text: f"{text}\tx\n", query),
    "queries.csv": Reader("q.csv", lambda text: f"id,text\n{quoted(text)},x\n", query),
    "topics": Reader("q.trec", lambda text: f"<top><num> Number: {text}\n<title>x</top>", query),
    "topics.xml": Reader("q.xml", lambda text: f'<topic number="{text}"><title>x</title></topic>', query),
    "qrels of BEIR, query": Reader("q.tsv", lambda text: f"{text}\td\t1\n", judged_query),
    "qrels of BEIR, document": Reader("q.tsv", lambda text: f"q\t{text}\t1\n", judged_document),
    "qrels of TREC, query": Reader("q.qrels", lambda text: f"{text}\t0\td\t1\n", judged_query),
    "qrels of TREC, document": Reader("q.qrels", lambda text: f"q\t0\t{text}\t1\n", judged_document),
    "examples.tsv": Reader("t.tsv", lambda text: f"q\t{text}\te\n", example),
    "examples.tsv with scores": Reader("t.tsv", lambda text: f"1.0\t0.5\tq\t{text}\te\n", example),
    "examples.jsonl": Reader("t.jsonl", lambda text: json.dumps(["q", text, "e"]), example),
    "examples.jsonl with scores": Reader("t.jsonl", lambda text: json.dumps(["q", [text, 1.0], ["e", 0.5]]), example),
    "run, query": Reader("a.run", lambda text: f"{text}\tQ0\td\t1\t1.0\tt\n", answered_query),
    "run, document": Reader("a.run", lambda text: f"q\tQ0\t{text}\t1\t1.0\tt\n", found_document),
}
readers = pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())


@readers
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("  a ", "a"),
        ("a  b", "a  b"),
        ("β/2 x", "β/2 x"),
        ("\u00a0a\u00a0b\u00a0", "\u00a0a\u00a0b\u00a0"),
        ("007", "007"),
        ("-1", "-1"),
        ("nan", "nan"),
    ],
)
def test_an_id_is_the_same_in_every_file(tmp_path: Path, reader: Reader, text: str, expected: str) -> None:
    """Spaces around an id are removed, those within are kept; a no-break space is an ordinary character."""
    (tmp_path / reader.name).write_text(reader.content(text), encoding="utf8", newline="")
    assert reader.read(tmp_path / reader.name) == expected


@readers
@pytest.mark.parametrize(
    "text", ["", "  ", "\u00a0", "\u2003", "a\0b", "a\x07b", "a\x0bb", "a\x7fb", "a\x85b", "a\u2028b"]
)
def test_an_id_that_a_run_cannot_hold_is_named_with_its_line(tmp_path: Path, reader: Reader, text: str) -> None:
    """Empty ids and control characters are an error when they are read, not when the run is written."""
    (tmp_path / reader.name).write_text(reader.content(text), encoding="utf8", newline="")
    with pytest.raises(UserError, match=rf"{reader.name}:[12]: "):
        reader.read(tmp_path / reader.name)


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb", "\ud83d", "a\ude00"])
@pytest.mark.parametrize("name", [name for name in READERS if "jsonl" in name])
def test_an_id_in_json_that_a_column_cannot_hold_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """JSON strings can hold tabs, line breaks and halves of surrogate pairs; a run file cannot."""
    reader = READERS[name]
    (tmp_path / reader.name).write_text(reader.content(text), encoding="utf8")
    with pytest.raises(DataError, match=rf"{reader.name}:1: the id .* which no run file can hold"):
        reader.read(tmp_path / reader.name)


@pytest.mark.parametrize("value", ["1.0", "true", "null", "[1]", '{"a": 1}'])
def test_an_id_in_json_is_a_string_or_a_whole_number(tmp_path: Path, value: str) -> None:
    """Other values would become Python's notation of them, such as `None`, and match no judgement."""
    (tmp_path / "c.jsonl").write_text(f'{{"_id": {value}, "text": "x"}}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:1: (an id must be a string or a whole number|there is no id)"):
        document(tmp_path / "c.jsonl")
    (tmp_path / "t.jsonl").write_text(f'["q", "d", {value}]\n')
    with pytest.raises(DataError, match=r"t\.jsonl:1: "):
        example(tmp_path / "t.jsonl")
    (tmp_path / "c.jsonl").write_text('{"_id": 12, "text": "x"}\n')
    assert document(tmp_path / "c.jsonl") == "12"


def test_as_id_is_idempotent() -> None:
    """An id that was read and written is the same when it is read again."""
    assert as_id(as_id(" \u00a0a b\u00a0 ")) == as_id(" \u00a0a b\u00a0 ")
