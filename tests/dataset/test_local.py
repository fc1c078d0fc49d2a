"""Collections from files: every format, every fault by its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.dataset.qrels import read_qrels
from irexp.types import Document, Qrel, Query

JSONL = '{"_id": "a", "title": "First", "text": "of all"}\n{"_id": "β/2 x", "text": "größer"}\n'
TSV = "a\tFirst of all\nβ/2 x\tgrößer\n"
TREC = """<DOC>
<DOCNO> a </DOCNO>
<TITLE>First</TITLE>
<TEXT>of
all</TEXT>
</DOC>
<DOC><DOCNO>β/2 x</DOCNO><TEXT>größer</TEXT></DOC>
"""
EXPECTED = [Document("a", "First of all"), Document("β/2 x", "größer")]


def write(path: Path, text: str) -> str:
    """A file, packed if its name says so."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(("name", "text"), [("c.jsonl", JSONL), ("c.tsv", TSV), ("c.trec", TREC)])
def test_documents_stream_and_are_found_by_id(tmp_path: Path, name: str, text: str, packed: str, mark: str) -> None:
    """Three formats, packed or not, with a byte-order mark or none, ids of any characters: the same documents."""
    documents = LocalDocuments(write(tmp_path / (name + packed), mark + text))
    assert list(documents) == list(documents) == EXPECTED
    assert documents.count() == 2
    assert documents.get_many(["β/2 x", "c", "a"]) == {"a": EXPECTED[0], "β/2 x": EXPECTED[1]}


def test_a_packed_file_is_found_by_its_plain_name(tmp_path: Path) -> None:
    """`corpus.jsonl` finds corpus.jsonl.gz."""
    write(tmp_path / "corpus.jsonl.gz", JSONL)
    assert LocalDocuments(str(tmp_path / "corpus.jsonl")).count() == 2


@pytest.mark.parametrize(
    ("fields", "text"), [(["text"], "of all"), (["title"], "First"), (["text", "title"], "of all First")]
)
def test_text_fields_are_chosen(tmp_path: Path, fields: list[str], text: str) -> None:
    """Named fields are joined in their order."""
    line = '{"_id": "a", "title": "First", "text": "of all"}\n'
    assert [d.text for d in LocalDocuments(write(tmp_path / "c.jsonl", line), text_fields=fields)] == [text]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.jsonl", JSONL + "{broken\n", r"c\.jsonl:3: this is no JSON"),
        ("c.jsonl", JSONL + "[1, 2]\n", r"c\.jsonl:3: a line is a JSON object"),
        ("c.jsonl", JSONL + '{"text": "x"}\n', r"c\.jsonl:3: there is no id .* only text"),
        ("c.jsonl", JSONL + '{"_id": "", "text": "x"}\n', r"c\.jsonl:3: there is no id"),
        ("c.jsonl", JSONL + '{"_id": "c", "words": "x"}\n', r"c\.jsonl:3: there is no text .* only _id, words"),
        ("c.jsonl", JSONL + '{"_id": "c", "text": 7}\n', r"c\.jsonl:3: a text is a string"),
        ("c.jsonl", JSONL + JSONL, r"c\.jsonl:3: the document id 'a' was there before, at .*c\.jsonl:1"),
        ("c.tsv", TSV + "no tab\n", r"c\.tsv:3: a line is an id, a tab and a text"),
        ("c.tsv", TSV + "\ttext\n", r"c\.tsv:3: the id is empty"),
        ("c.trec", TREC + "<DOC><TEXT>x</TEXT></DOC>", r"c\.trec:8: there is no id"),
        ("c.trec", TREC + "<DOC>\n<DOCNO>c</DOCNO>", r"c\.trec:8: the element that begins here has no end"),
        ("c.jsonl", "\n", "has no documents"),
        ("c.doc", JSONL, "the format cannot be told from the name"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Nothing goes out before the whole file was found to be right."""
    documents = iter(LocalDocuments(write(tmp_path / name, text)))
    with pytest.raises(DataError, match=message):
        next(documents)


def test_bytes_that_are_no_text_and_damaged_archives(tmp_path: Path) -> None:
    """Latin-1 and a cut gzip file have their messages."""
    (tmp_path / "c.tsv").write_bytes("a\tfirst\nb\tgrö\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"c\.tsv:1: this is not UTF-8|c\.tsv:2: this is not UTF-8"):
        LocalDocuments(str(tmp_path / "c.tsv")).count()
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(TSV.encode() * 50)[:-12])
    with pytest.raises(DataError, match="damaged"):
        LocalDocuments(str(tmp_path / "d.tsv.gz")).count()


def test_a_wrong_path_says_how_far_it_is_right(tmp_path: Path) -> None:
    """The last folder that is there, and what it has."""
    write(tmp_path / "corpus.jsonl", JSONL)
    with pytest.raises(DataError, match=r"is not there, nor with \.gz behind; .* has corpus\.jsonl"):
        LocalDocuments(str(tmp_path / "missing" / "corpus.jsonl")).count()
    with pytest.raises(DataError, match="is a folder; a file is needed"):
        LocalDocuments(str(tmp_path)).count()


def test_empty_documents_are_kept_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One log line with the first place."""
    text = JSONL + '{"_id": "c", "text": ""}\n{"_id": "d", "title": " ", "text": " "}\n'
    assert LocalDocuments(write(tmp_path / "c.jsonl", text)).count() == 4
    assert "2 documents have no text" in caplog.text
    assert "c.jsonl:3 (c)" in caplog.text


TOPICS = """<top>
<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations.
</top>
<top><num>302</num><title>Polio</title></top>
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.tsv", "301\tInternational Organized Crime\n302\tPolio\n"),
        ("q.jsonl", '{"_id": 301, "text": "International Organized Crime"}\n{"_id": "302", "text": "Polio"}\n'),
        ("q.trec.gz", TOPICS),
    ],
)
def test_queries_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    """Without judgements all queries are answered."""
    topics = LocalTopics(write(tmp_path / name, text))
    assert list(topics.queries()) == [Query("301", "International Organized Crime"), Query("302", "Polio")]
    assert list(topics.qrels()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("q.tsv", "query-id\tcorpus-id\tscore\n301\ta b\t2\n"), ("q.qrels", "301 0 ab 2\n"), ("q.txt", "301\t0\tab\t2\n")],
)
def test_judgements_of_beir_and_trec(tmp_path: Path, name: str, text: str) -> None:
    """Three columns with a header, four with blanks or tabs; an id of BEIR may hold a blank."""
    assert read_qrels(write(tmp_path / name, text)) in ([Qrel("301", "a b", 2)], [Qrel("301", "ab", 2)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q\td\t1\nq\te\n", r":2: 2 columns; a judgement is query-id, corpus-id, score"),
        ("q\td\t1\nq\te\thigh\n", r":2: the relevance 'high' is no whole number"),
        ("q\td\t1\nq\td\t0\n", r":2: q and d were judged 1 before, and 0 here"),
        ("query-id\tcorpus-id\tscore\n", "has no judgements"),
    ],
)
def test_faulty_judgements(tmp_path: Path, text: str, message: str) -> None:
    """Each by its line."""
    with pytest.raises(DataError, match=message):
        read_qrels(write(tmp_path / "q.tsv", text))


def test_only_judged_queries_are_answered_and_missing_ones_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """BEIR's queries.jsonl holds all splits; a judged query without a text is logged."""
    queries = write(tmp_path / "queries.tsv", "1\tone\n2\ttwo\n")
    qrels = write(tmp_path / "qrels.tsv", "2\td\t1\n3\td\t1\n2\td\t1\n")
    assert [query.query_id for query in LocalTopics(queries, qrels_path=qrels).queries()] == ["2"]
    assert "1 judged queries" in caplog.text
    assert "stand there twice" in caplog.text
    assert len(list(LocalTopics(queries, qrels_path=qrels, judged_only=False).queries())) == 2
    with pytest.raises(DataError, match=r"queries\.tsv:3: the query id '1' was there before"):
        list(LocalTopics(write(tmp_path / "queries.tsv", "1\tone\n2\ttwo\n1\tx\n")).queries())


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    """What stays in memory of 20,000 documents is a small part of their 20 MB."""
    import tracemalloc

    path = tmp_path / "c.jsonl"
    with path.open("w") as file:
        for number in range(20_000):
            file.write(json.dumps({"_id": f"d{number}", "text": "word " * 200}) + "\n")
    documents = LocalDocuments(str(path))
    tracemalloc.start()
    assert sum(1 for _ in documents) == 20_000
    assert documents.get_many(["d19999"])["d19999"].text.startswith("word")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6
