"""Collections from files: every format is read, and every fault is named with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.dataset.qrels import read_qrels
from irexp.types import Document, Qrel, Query
from tests.text_files import write

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


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(("name", "text"), [("c.jsonl", JSONL), ("c.tsv", TSV), ("c.trec", TREC)])
def test_documents_stream_and_are_found_by_id(tmp_path: Path, name: str, text: str, packed: str, mark: str) -> None:
    """All formats, compressed or not, with a byte order mark or not, give the same documents, with ids of any script.

    A wrong byte offset would garble what is looked up.
    """
    documents = LocalDocuments(write(tmp_path / (name + packed), mark + text))
    assert list(documents) == list(documents) == EXPECTED
    assert documents.count() == 2
    assert documents.get_many(["β/2 x", "c", "a"]) == {"a": EXPECTED[0], "β/2 x": EXPECTED[1]}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(("name", "text"), [("c.jsonl", JSONL), ("c.tsv", TSV)])
def test_joined_files_may_have_a_byte_order_mark_each(tmp_path: Path, name: str, text: str, packed: str) -> None:
    """`cat` of two files with marks: the second mark does not become part of an id, nor an error in JSON."""
    documents = LocalDocuments(
        write(tmp_path / (name + packed), "".join(f"\ufeff{line}\n" for line in text.splitlines()))
    )
    assert list(documents) == EXPECTED
    assert documents.get_many(["β/2 x", "a"]) == {"a": EXPECTED[0], "β/2 x": EXPECTED[1]}


def test_a_compressed_file_is_found_without_its_suffix(tmp_path: Path) -> None:
    """The path `corpus.jsonl` opens corpus.jsonl.gz if only that exists."""
    write(tmp_path / "corpus.jsonl.gz", JSONL)
    assert LocalDocuments(str(tmp_path / "corpus.jsonl")).count() == 2


@pytest.mark.parametrize(
    ("fields", "text"), [(["text"], "of all"), (["title"], "First"), (["text", "title"], "of all First")]
)
def test_text_fields_are_joined_in_the_given_order(tmp_path: Path, fields: list[str], text: str) -> None:
    """The text has the chosen fields and no others."""
    line = '{"_id": "a", "title": "First", "text": "of all"}\n'
    assert [d.text for d in LocalDocuments(write(tmp_path / "c.jsonl", line), text_fields=fields)] == [text]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.jsonl", JSONL + "{broken\n", r"c\.jsonl:3: this is not JSON"),
        ("c.jsonl", JSONL + "[1, 2]\n", r"c\.jsonl:3: a line is a JSON object"),
        ("c.jsonl", JSONL + '{"text": "x"}\n', r"c\.jsonl:3: there is no id .* only text"),
        ("c.jsonl", JSONL + '{"_id": "", "text": "x"}\n', r"c\.jsonl:3: there is no id"),
        ("c.jsonl", JSONL + '{"_id": "c", "words": "x"}\n', r"c\.jsonl:3: there is no text .* only _id, words"),
        ("c.jsonl", JSONL + '{"_id": "c", "text": 7}\n', r"c\.jsonl:3: a text is a string"),
        ("c.jsonl", JSONL + JSONL, r"c\.jsonl:3: the document id 'a' already occurs at .*c\.jsonl:1"),
        ("c.tsv", TSV + "no tab\n", r"c\.tsv:3: a line is an id, a tab and a text"),
        ("c.tsv", TSV + "\ttext\n", r"c\.tsv:3: the id is empty"),
        ("c.trec", TREC + "<DOC><TEXT>x</TEXT></DOC>", r"c\.trec:8: there is no id"),
        ("c.trec", TREC + "<DOC>\n<DOCNO>c</DOCNO>", r"c\.trec:8: the element that begins here has no closing tag"),
        ("c.jsonl", "\n", "has no documents"),
        ("c.doc", JSONL, "the name does not tell the format"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    """No document is yielded before the whole file has been checked."""
    documents = iter(LocalDocuments(write(tmp_path / name, text)))
    with pytest.raises(DataError, match=message):
        next(documents)


def test_compressed_documents_are_read_whatever_their_name(tmp_path: Path) -> None:
    """Gzip is recognised by its first bytes, too; a damaged file is named."""
    packed = gzip.compress(TSV.encode())
    (tmp_path / "c.tsv").write_bytes(packed)
    documents = LocalDocuments(str(tmp_path / "c.tsv"))
    assert list(documents) == EXPECTED
    assert documents.get_many(["β/2 x"]) == {"β/2 x": EXPECTED[1]}
    (tmp_path / "d.tsv").write_bytes(packed[:-12])
    with pytest.raises(DataError, match=r"d\.tsv is damaged"):
        LocalDocuments(str(tmp_path / "d.tsv")).count()


def test_files_in_another_encoding_and_truncated_archives_are_named(tmp_path: Path) -> None:
    """Latin-1 text and a truncated gzip file raise errors of their own."""
    (tmp_path / "c.tsv").write_bytes("a\tfirst\nb\tgrö\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"c\.tsv:1: this is not UTF-8|c\.tsv:2: this is not UTF-8"):
        LocalDocuments(str(tmp_path / "c.tsv")).count()
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(TSV.encode() * 50)[:-12])
    with pytest.raises(DataError, match="damaged"):
        LocalDocuments(str(tmp_path / "d.tsv.gz")).count()


def test_the_error_for_a_wrong_path_lists_the_nearest_folder(tmp_path: Path) -> None:
    """The message names the last folder of the path that exists, and its content."""
    write(tmp_path / "corpus.jsonl", JSONL)
    with pytest.raises(DataError, match=r"does not exist, with or without \.gz; .* has corpus\.jsonl"):
        LocalDocuments(str(tmp_path / "missing" / "corpus.jsonl")).count()
    with pytest.raises(DataError, match="is a folder; a file is needed"):
        LocalDocuments(str(tmp_path)).count()


def test_empty_documents_are_kept_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One log line gives their number and the place of the first."""
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
def test_queries_are_read_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    """Each format gives the same queries; without judgements, judged_only drops none."""
    topics = LocalTopics(write(tmp_path / name, text))
    assert list(topics.queries()) == [Query("301", "International Organized Crime"), Query("302", "Polio")]
    assert list(topics.qrels()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("q.tsv", "query-id\tcorpus-id\tscore\n301\ta b\t2\n"), ("q.qrels", "301 0 ab 2\n"), ("q.txt", "301\t0\tab\t2\n")],
)
def test_judgements_of_beir_and_trec_are_read(tmp_path: Path, name: str, text: str) -> None:
    """Three columns with a header, or four separated by spaces or tabs; an id in BEIR's may contain a space."""
    assert read_qrels(write(tmp_path / name, text)) in ([Qrel("301", "a b", 2)], [Qrel("301", "ab", 2)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q\td\t1\nq\te\n", r":2: 2 columns; a judgement has query-id, corpus-id, score"),
        ("q\td\t1\nq\te\thigh\n", r":2: the relevance 'high' is not a whole number"),
        ("q\td\t1\nq\td\t0\n", r":2: the relevance of d to q is 1 on an earlier line and 0 here"),
        ("query-id\tcorpus-id\tscore\n", "has no judgements"),
    ],
)
def test_faulty_judgements_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    """A missing column, a grade that is not a number, or a contradiction is an error with its line."""
    with pytest.raises(DataError, match=message):
        read_qrels(write(tmp_path / "q.tsv", text))


def test_only_judged_queries_are_read_and_missing_ones_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """BEIR's queries.jsonl holds all splits, so others are dropped; a judged query without a text is logged."""
    queries = write(tmp_path / "queries.tsv", "1\tone\n2\ttwo\n")
    qrels = write(tmp_path / "qrels.tsv", "2\td\t1\n3\td\t1\n2\td\t1\n")
    assert [query.query_id for query in LocalTopics(queries, qrels_path=qrels).queries()] == ["2"]
    assert "1 judged queries" in caplog.text
    assert "are duplicates and count once" in caplog.text
    assert len(list(LocalTopics(queries, qrels_path=qrels, judged_only=False).queries())) == 2
    with pytest.raises(DataError, match=r"queries\.tsv:3: the query id '1' already occurs"):
        list(LocalTopics(write(tmp_path / "queries.tsv", "1\tone\n2\ttwo\n1\tx\n")).queries())


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    """The documents of a 20 MB file are not held in memory: the peak is below 4 MB."""
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


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_header_names_the_columns_and_is_not_a_document(
    tmp_path: Path, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A header would otherwise be read as a document or query; without a header, TSV is an id and a text."""
    caplog.set_level("INFO")
    table = f"id\ttext\ttitle{end}a\tof all\tFirst{end}β/2 x\tgrößer\t{end}"
    assert list(LocalDocuments(write(tmp_path / "c.tsv", table))) == EXPECTED
    assert "the first line is a header, not a document or query" in caplog.text
    assert [d.text for d in LocalDocuments(str(tmp_path / "c.tsv"), text_fields=["text"])] == ["of all", "größer"]
    comma = f'\ufeffID,Title,Text{end}a,First,of all{end}{end}"β/2 x",,größer{end}'
    documents = LocalDocuments(write(tmp_path / "c.csv.gz", comma))
    assert list(documents) == EXPECTED and documents.count() == 2
    assert documents.get_many(["β/2 x"]) == {"β/2 x": EXPECTED[1]}
    for name, text in [("q.tsv", f"qid\tquery{end}1\tone{end}"), ("q.csv", f"query_id,query{end}1,one{end}")]:
        assert list(LocalTopics(write(tmp_path / name, text)).queries()) == [Query("1", "one")]
    assert len(list(LocalTopics(write(tmp_path / "q.tsv", f"1\tid\n2\ttext{end}")).queries())) == 2


def test_csv_texts_may_contain_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    """Quoted fields are parsed as the csv module parses them, also when a document is looked up."""
    path = write(
        tmp_path / "c.csv", '\n,_id,title,text\n0,a,"x, ""y""","one\r\ntwo\n"\n1,b,,"' + "z " * 100_000 + '"\n'
    )
    documents = LocalDocuments(path)
    expected = [Document("a", 'x, "y" one\r\ntwo'), Document("b", ("z " * 100_000).strip())]
    assert list(documents) == expected
    assert documents.get_many(["a", "b"]) == {d.doc_id: d for d in expected}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "a,b\nc,d\n", r"c\.csv: a CSV file needs a header such as id,title,text, not 'a,b'"),
        ("c.csv", "", r"c\.csv: a CSV file needs a header"),
        ("c.csv", "id,text\na,b,c\n", r"c\.csv:2: 3 columns, but the first line names 2"),
        ("c.csv", "id,text,text\na,b,c\n", r"c\.csv:2: 3 columns, but the first line names 2"),
        ("c.csv", 'id,text\na,"b\nc,d\n', r"c\.csv:2: this is not CSV \(unexpected end of data\)"),
        ("c.csv", 'id,text\na,"b"c\n', r"c\.csv:2: this is not CSV"),
        ("c.tsv", "id\ttext\na\tb\tc\n", r"c\.tsv:2: 3 columns, but the first line names 2"),
        ("c.tsv", "id\ttext\n", "has no documents"),
    ],
)
def test_faulty_tables_are_named_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    """A missing header, a wrong number of columns or broken quotes are an error with file and line."""
    with pytest.raises(DataError, match=message):
        LocalDocuments(write(tmp_path / name, text)).count()


@pytest.mark.parametrize(
    ("name", "text", "fields", "message"),
    [
        ("c.tsv", "a\tx\n", [], r"text_fields=\[\] names no field"),
        ("c.jsonl", '{"_id": "a", "text": "x"}\n', [], r"text_fields=\[\] names no field"),
        ("c.trec", "<DOC><DOCNO>a</DOCNO>x</DOC>\n", [], r"text_fields=\[\] names no field"),
        ("c.csv", "id,text\na,x\n", [], r"text_fields=\[\] names no field"),
        ("c.tsv", "a\tx\n", ["text"], "without a header are column numbers, not 'text'"),
        ("c.tsv", "a\tx\n", ["0"], "without a header are column numbers, not '0'"),
        ("c.tsv", "a\tx\n", ["-1"], "without a header are column numbers"),
        ("c.tsv", "a\tx\n", ["9" * 5000], "without a header are column numbers"),
        ("c.tsv", "a\tx\n", ["2"], "there is no column 2 after the id, only 1"),
        ("c.csv", "id,text\na,x\n", ["title"], "there is no title, only id, text"),
        ("c.trec", "<DOC><DOCNO>a</DOCNO>x</DOC>\n", ["(.*"], r"no document has an element \(\.\*"),
    ],
)
def test_unknown_text_fields_are_named(tmp_path: Path, name: str, text: str, fields: list[str], message: str) -> None:
    """A misspelt field is an error, not an empty text."""
    with pytest.raises(DataError, match=rf"{name}(:[12])?: .*{message}"):
        LocalDocuments(write(tmp_path / name, text), text_fields=fields).count()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q1 d1 1.0\nq2 d2 0\n", [Qrel("q1", "d1", 1), Qrel("q2", "d2", 0)]),
        ("\nquery-id\tcorpus-id\tscore\nq1\td1\t+1\n", [Qrel("q1", "d1", 1)]),
        ("qid Q0 docid rel\nq1 0 d\u00a01 -2\n", [Qrel("q1", "d\u00a01", -2)]),
        ("query document 1\n", [Qrel("query", "document", 1)]),
        ("corpus-id\tquery-id\tscore\n1\t0\t2\n", [Qrel("0", "1", 2)]),
        ("query_id\tdoc_id\trelevance\titeration\nq1\td1\t1\t0\n", [Qrel("q1", "d1", 1)]),
        ("query-id\tcorpus-id\tgain\nq1\td1\t1\n", [Qrel("q1", "d1", 1)]),
        ("qid\tdocid\tpid\trel\nq1\td\tp1\t1\n", [Qrel("q1", "p1", 1)]),
        ("query_id iter doc_id rating\nq1 0 d1 1\n", [Qrel("q1", "d1", 1)]),
        ("qid\t_id\tscore\nq1\td1\t1\n", [Qrel("q1", "d1", 1)]),
    ],
)
def test_only_a_header_is_skipped(tmp_path: Path, text: str, expected: list[Qrel]) -> None:
    """A first line that is a judgement counts, even if its ids look like column names or its grade is `1.0`.

    A header's names say which column is which.
    """
    assert read_qrels(write(tmp_path / "q.qrels", text)) == expected


def test_a_header_in_another_order_names_all_columns(tmp_path: Path) -> None:
    """Otherwise a column would be taken for another one by its place."""
    with pytest.raises(DataError, match=r"q\.qrels:1: the header names corpus_id, id, score; call"):
        read_qrels(write(tmp_path / "q.qrels", "corpus-id\tid\tscore\nd1\tq1\t1\n"))


def test_a_passage_that_names_its_document_has_its_own_id(tmp_path: Path) -> None:
    """As those of MS MARCO v2, several of which are of one document."""
    lines = [json.dumps({"pid": f"p{n}", "passage": "a", "docid": "d"}) for n in range(2)]
    documents = LocalDocuments(write(tmp_path / "corpus.jsonl", "\n".join(lines)))
    assert [document.doc_id for document in documents] == ["p0", "p1"]


@pytest.mark.parametrize("relevance", ["0.5", "high", "", "1e3", "1_0", "٣", "nan", "1000001", "-1000001", "9" * 5000])
@pytest.mark.parametrize("before", ["", "q\td\t1\n"])
def test_a_grade_is_a_whole_number_up_to_a_million(tmp_path: Path, relevance: str, before: str) -> None:
    """Any other grade is an error with its line, on the first line too."""
    with pytest.raises(DataError, match=rf"q\.tsv:{1 + bool(before)}: the relevance .* (whole number|above 1,000,000)"):
        read_qrels(write(tmp_path / "q.tsv", f"{before}q\te\t{relevance}\n"))


def test_a_file_without_queries_is_named(tmp_path: Path) -> None:
    """An empty queries file of any format is an error, not a run without queries."""
    for name in ("q.tsv", "q.jsonl", "q.trec", "q.csv"):
        with pytest.raises(DataError, match=r"has no queries|needs a header"):
            list(LocalTopics(write(tmp_path / name, "")).queries())
