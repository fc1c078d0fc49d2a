"""Damaged files: whatever the damage, a reader either reads the file or raises a one-line error."""

from __future__ import annotations

import errno
import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.examples import FileExamples
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.dataset.qrels import read_qrels
from irexp.evaluation.run_file import Rankings, read_run
from irexp.types import UserError


def documents(path: Path) -> None:
    """Stream all documents and look them up."""
    found = LocalDocuments(str(path))
    assert found.get_many([document.doc_id for document in found])


def chosen(path: Path) -> None:
    """Stream documents with text_fields."""
    list(LocalDocuments(str(path), text_fields=["text"]))


def queries(path: Path) -> None:
    """Stream all queries."""
    list(LocalTopics(str(path)).queries())


def examples(path: Path) -> None:
    """Read all training examples."""
    path.parent.mkdir(exist_ok=True)
    (path.parent / "queries.tsv").write_text("q1\tone\nq2\ttwo\nq3\tthree\n")
    found = FileExamples(str(path), topics=LocalTopics(str(path.parent / "queries.tsv")))
    assert len(found) and found.doc_ids()


class Case(NamedTuple):
    """An undamaged file and its reader."""

    name: str
    content: str
    read: Callable[[Path], object]


WORDS = 'größer, "and" 10 < 12 <b>of</b> all & &amp; ends\\n 🙂'
JSON_WORDS = WORDS.replace('"', '\\"')
CASES = {
    "documents.jsonl": Case(
        "c.jsonl",
        "".join(f'{{"_id": "d{n}", "title": "t {n}", "text": "{JSON_WORDS} \\ud83d\\ude42"}}\n' for n in range(6)),
        documents,
    ),
    "documents.tsv": Case("c.tsv", "".join(f"d{n}\t{WORDS}\tmore\n" for n in range(6)), documents),
    "documents.tsv with a header": Case(
        "c.tsv", "id\ttitle\ttext\n" + "".join(f"d{n}\t{WORDS}\tmore\n" for n in range(6)), chosen
    ),
    "documents.csv": Case(
        "c.csv", "id,title,text\n" + "".join(f'd{n},t,"x, ""{n}""\nmore 🙂"\n' for n in range(6)), documents
    ),
    "documents.trec": Case(
        "c.trec",
        "".join(f"<DOC>\n<DOCNO> d{n} </DOCNO>\n<TEXT>{WORDS}\n</TEXT></DOC>\n" for n in range(6)),
        documents,
    ),
    "parts of documents.trec": Case(
        "c.trec", "".join(f"<DOC><DOCNO>d{n}</DOCNO><TEXT>{WORDS}</TEXT></DOC>" for n in range(6)), chosen
    ),
    "queries.jsonl": Case("q.jsonl", "".join(f'{{"_id": {n}, "text": "{JSON_WORDS}"}}\n' for n in range(6)), queries),
    "queries.tsv": Case("q.tsv", "".join(f"{n}\t{WORDS}\n" for n in range(6)), queries),
    "queries.csv": Case("q.csv", "qid,query\n" + "".join(f'{n},"x ""{n}"""\n' for n in range(6)), queries),
    "topics": Case(
        "q.trec",
        "".join(f"<top>\n<num> Number: {n}\n<title> {WORDS}\n<desc> no\n</top>\n" for n in range(6)),
        queries,
    ),
    "topics.xml": Case(
        "q.xml",
        "<topics>" + "".join(f'<topic number="{n}"><title>{WORDS}</title></topic>' for n in range(6)) + "</topics>",
        queries,
    ),
    "qrels of BEIR": Case(
        "q.tsv",
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t{n % 3}\n" for n in range(6)),
        lambda path: read_qrels(str(path)),
    ),
    "qrels of TREC": Case(
        "q.qrels", "".join(f"q{n} 0 d{n} {n % 4 - 1}\n" for n in range(6)), lambda path: read_qrels(str(path))
    ),
    "examples.tsv": Case("t.tsv", "".join(f"q{n % 3 + 1}\td{n}\td8\td9\n" for n in range(6)), examples),
    "examples.tsv with scores": Case(
        "t.tsv", "".join(f"{n}.5\t1.0\tq{n % 3 + 1}\td{n}\td8\n" for n in range(6)), examples
    ),
    "examples.jsonl": Case(
        "t.jsonl", "".join(f'["q{n % 3 + 1}", ["d{n}", {n}.5], [-1.5, "d8"]]\n' for n in range(6)), examples
    ),
    "run": Case(
        "a.run",
        "".join(f"q{n % 3}\tQ0\td{n}\t{n}\t{9 - n}.5\tt\n" for n in range(9)),
        lambda path: list(Rankings(read_run(path))),
    ),
    "run with spaces": Case(
        "a.run",
        "".join(f"q{n % 3} Q0 d{n} {n} {9 - n}.5 t\n" for n in range(9)),
        lambda path: list(Rankings(read_run(path))),
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

#: Bytes that damage inserts into a file.
PIECES = [
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\xbd", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"\r\n", b"\t", b" ", b","),
    *(
        b'"',
        b"'",
        b"{",
        b"}",
        b"[",
        b"]",
        b"<",
        b">",
        b"</",
        b"<!--",
        b"-->",
        b"<DOC>",
        b"</DOC>",
        b"<top>",
        b"&#xD83D;",
    ),
    *(b"\\", b"\\ud83d", b"\\u0000", b"null", b"NaN", b"-", b"1e999", b".5", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1a"),
    *(b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"<" * 2000, b"<a " * 1000, b"&" * 2000, b"\t" * 300, b'"' * 301),
]


def damaged(content: bytes, generator: random.Random) -> bytes:
    """The content with pieces inserted, removed, duplicated, replaced or reversed, once or a few times."""
    for _ in range(generator.choice([1, 1, 2, 5])):
        start = generator.randrange(len(content) + 1)
        end = min(len(content), start + generator.choice([0, 1, 2, 30]))
        piece = generator.choice(
            [*PIECES, content[start:end] * 2, content[start:end][::-1], generator.randbytes(3), b""]
        )
        content = content[:start] + piece + content[end:]
    return content[: generator.randrange(len(content) + 1)] if generator.random() < 0.1 else content


def outcome(path: Path, read: Callable[[Path], object]) -> str:
    """Whether a file is read, or refused with a one-line error that names it."""
    try:
        read(path)
    except UserError as error:
        assert str(path) in str(error), error
        assert "\n" not in str(error) and len(str(error)) < 1000, error
        str(error).encode()  # as a log file writes it
        return "refused"
    return "read"


@cases
def test_an_undamaged_file_is_read(tmp_path: Path, case: Case) -> None:
    """Plain or gzip-compressed, with a byte order mark or Windows line ends, the file is read."""
    for number, content in enumerate([case.content, "\ufeff" + case.content, case.content.replace("\n", "\r\n")]):
        for packed in ("", ".gz"):
            path = tmp_path / f"{number}{case.name}{packed}"
            path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
            assert outcome(path, case.read) == "read"


@cases
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, case: Case) -> None:
    """Of 300 damaged files each is read or raises a UserError, never another exception; both occur."""
    generator = random.Random(case.name)
    path = tmp_path / case.name
    outcomes = set()
    for _ in range(300):
        path.write_bytes(damaged(case.content.encode(), generator))
        outcomes.add(outcome(path, case.read))
    assert outcomes == {"read", "refused"}


@cases
def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path, case: Case) -> None:
    """A gzip file damaged anywhere raises nothing but a UserError; a truncated one always does."""
    generator = random.Random(case.name)
    path = tmp_path / f"{case.name}.gz"
    packed = gzip.compress((case.content * 20).encode() if case.read is queries else case.content.encode())
    for _ in range(100):
        path.write_bytes(damaged(packed, generator))
        outcome(path, case.read)
    path.write_bytes(packed[: len(packed) // 2])
    assert outcome(path, case.read) == "refused"


@cases
@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 99, b"\xff\xfea\0", b"\x89PNG\r\n\x1a\n\0", b"\xef\xbb\xbf"])
def test_what_is_not_text_is_refused(tmp_path: Path, case: Case, content: bytes) -> None:
    """Empty files, UTF-16, images and zeros raise a UserError; only a run may be empty."""
    (tmp_path / case.name).write_bytes(content)
    is_empty_run = case.name == "a.run" and not content.strip(b"\n\xef\xbb\xbf")
    assert outcome(tmp_path / case.name, case.read) == ("read" if is_empty_run else "refused")


@cases
def test_a_path_that_is_not_a_file_is_named(tmp_path: Path, case: Case) -> None:
    """The path of a folder, or one that does not exist, raises a UserError with that path."""
    (tmp_path / case.name).mkdir()
    assert outcome(tmp_path / case.name, case.read) == "refused"
    assert outcome(tmp_path / "missing" / case.name, case.read) == "refused"


def test_half_of_a_surrogate_pair_in_a_text_is_refused(tmp_path: Path) -> None:
    """JSON can hold one, but encoding the text as UTF-8 would fail later."""
    for line in ('{"_id": "a", "text": "\\ud83d"}', '{"_id": "a", "title": "\\ude42", "text": "x"}'):
        (tmp_path / "c.jsonl").write_text(line)
        with pytest.raises(DataError, match=r"c\.jsonl:1: the text has half of a surrogate pair"):
            LocalDocuments(str(tmp_path / "c.jsonl")).count()


def test_a_full_temporary_folder_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed collection is unpacked there, to look its documents up."""
    (tmp_path / "corpus.tsv.gz").write_bytes(gzip.compress(b"d1\ta text\n"))

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    documents = LocalDocuments(str(tmp_path / "corpus.tsv.gz"))
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DataError, match=r"corpus\.tsv\.gz cannot be unpacked: .* is full; .*TMPDIR"):
        documents.get_many(["d1"])
