"""Run files: the round trip, other programs' files, and errors with file and line."""

import gzip
import random
from pathlib import Path

import pytest

from irexp.evaluation.run_file import in_rank_order, read_run, write_run
from irexp.types import ScoredDoc, UserError


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Ids with spaces and scores of any magnitude survive the round trip exactly, compressed or not."""
    generator = random.Random(0)
    scores = sorted((generator.gauss(0, 10.0 ** generator.randint(-12, 12)) for _ in range(50)), reverse=True)
    ranking = [ScoredDoc(f"query {q}", f"doc\u00a0{q}  {i}", s) for q in range(3) for i, s in enumerate(scores)]
    for name in ("a.run", "a.run.gz"):
        write_run(tmp_path / name, ranking, tag="my run")
        assert list(read_run(tmp_path / name)) == ranking
    assert gzip.decompress((tmp_path / "a.run.gz").read_bytes()) == (tmp_path / "a.run").read_bytes()


def test_a_compressed_run_is_read_whatever_its_name(tmp_path: Path) -> None:
    """Gzip is recognised by its first bytes, too, since tools rename files."""
    (tmp_path / "a.run").write_bytes(gzip.compress(b"1 Q0 d1 1 2.5 tag\n"))
    assert list(read_run(tmp_path / "a.run")) == [ScoredDoc("1", "d1", 2.5)]


def test_the_columns_are_those_of_trec(tmp_path: Path) -> None:
    """A line holds query_id, Q0, doc_id, rank from 1 within its query, score and tag, separated by tabs."""
    write_run(
        tmp_path / "a.run", [ScoredDoc("1", "x", 2.0), ScoredDoc("1", "y", 0.1), ScoredDoc("2", "x", -1.0)], tag="t"
    )
    assert (tmp_path / "a.run").read_text() == ("1\tQ0\tx\t1\t2.0\tt\n1\tQ0\ty\t2\t0.1\tt\n2\tQ0\tx\t1\t-1.0\tt\n")


def test_a_run_of_another_program_is_read(tmp_path: Path) -> None:
    """Columns may be separated by any whitespace, lines by CRLF, and a byte order mark may come first."""
    (tmp_path / "a.run").write_bytes(
        "\ufeff1 Q0 d\u00a01   1 2.5 tag\r\n\r\n1\tQ0  d2 2 1e-3 tag\r\n 2 0 d1 7 -3 x\r\n".encode()
    )
    assert list(read_run(tmp_path / "a.run")) == [
        ScoredDoc("1", "d\u00a01", 2.5),
        ScoredDoc("1", "d2", 0.001),
        ScoredDoc("2", "d1", -3.0),
    ]


def test_joined_runs_may_have_a_byte_order_mark_each(tmp_path: Path) -> None:
    """`cat a.run b.run` of a program that writes one: the mark does not become part of a query's id."""
    (tmp_path / "a.run").write_text("\ufeff1 Q0 d1 1 2.5 t\n\ufeff2 Q0 d1 1 2.5 t\n2 Q0 d2 2 1.5 t\n", encoding="utf8")
    assert [line.query_id for line in read_run(tmp_path / "a.run")] == ["1", "2", "2"]


@pytest.mark.parametrize(
    ("scores", "warned"),
    [((0.1, 0.2, 0.9), True), ((0.1, 0.2, 0.2), True), ((0.9, 0.2, 0.1), False), ((1, 1, 1), False), ((0.1,), False)],
)
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_a_run_of_distances_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scores: tuple[float, ...], separator: str, *, warned: bool
) -> None:
    """Its ranks contradict its scores, which decide; it is said once, in whatever order the lines come."""
    lines = [("1", "Q0", f"d{rank}", str(rank), str(score), "t") for rank, score in enumerate(scores, 1)]
    lines = [*reversed(lines), ("2", "Q0", "d1", "1", "3", "t"), ("2", "Q0", "d2", "2", "2", "t")]
    (tmp_path / "a.run").write_text("".join(separator.join(line) + "\n" for line in lines))
    for _ in range(2):
        assert len(list(read_run(tmp_path / "a.run"))) == len(lines)
    assert [
        record.getMessage().startswith(f"{tmp_path}/a.run: of query 1, the document of rank 1")
        for record in caplog.records
    ] == [True] * warned


@pytest.mark.parametrize(
    ("lines", "warned"),
    [
        ("1 Q0 c 1 1.0 t\n1 Q0 b 2 1.0 t\n1 Q0 a 3 1.0 t\n", True),
        ("0 Q0 c 1 1.0 t\n1 Q0 c 1 1.0 t\n1 Q0 b 2 1.0 t\n", True),
        ("1 Q0 a 1 1.0 t\n1 Q0 b 2 1.0 t\n1 Q0 c 3 1.0 t\n", False),
        ("1 Q0 c 0 1.0 t\n1 Q0 a 0 1.0 t\n1 Q0 b 0 1.0 t\n", False),
        ("1 Q0 c 1 2.0 t\n1 Q0 b 2 1.0 t\n1 Q0 a 3 1.0 t\n", False),
    ],
)
def test_a_run_of_equal_scores_whose_ranks_say_another_order_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: str, *, warned: bool
) -> None:
    """Programs that know ranks alone write one score; a query of one line says nothing, nor do equal ranks."""
    (tmp_path / "a.run").write_text(lines + "2 Q0 d 1 3 t\n")
    assert len(list(read_run(tmp_path / "a.run"))) == 1 + lines.count("\n")
    expected = f"{tmp_path}/a.run: of query 1, all scores are 1, so that its documents are ordered by their ids"
    assert [record.getMessage().startswith(expected) for record in caplog.records] == [True] * warned


@pytest.mark.parametrize(
    ("text", "doc_ids"),
    [
        ("1\td 1\t2.5\n1\td2\t0.5\n", ["d 1", "d2"]),
        ("1 d1 2.5\n1 d2 5e-1\n", ["d1", "d2"]),
        ("1 Q0\td1 1\t2.5 t\n1 Q0\td2 2\t0.5 t\n", ["d1", "d2"]),
    ],
)
def test_three_columns_are_tevatrons(tmp_path: Path, text: str, doc_ids: list[str]) -> None:
    """Query, document and score; six columns with two tabs among their spaces are still TREC's."""
    (tmp_path / "a.run").write_text(text)
    assert [*read_run(tmp_path / "a.run")] == [ScoredDoc("1", doc_ids[0], 2.5), ScoredDoc("1", doc_ids[1], 0.5)]


@pytest.mark.parametrize(
    ("line", "expected"), [("1\td2\t2", "2 may be a rank"), ("1\tQ0\td2\t2\t0.5\tt", "doc_id score")]
)
def test_three_columns_with_ranks_or_other_lines_are_an_error(tmp_path: Path, line: str, expected: str) -> None:
    """MS MARCO's runs have ranks in the place of scores, which would turn the ranking round."""
    (tmp_path / "a.run").write_text(f"1\td1\t2.5\n{line}\n")
    with pytest.raises(UserError, match=rf"a\.run:2: .*{expected}"):
        list(read_run(tmp_path / "a.run"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 Q0 d2 2 0.5", "six columns"),
        ("1 Q0 d 2 2 0.5 t", "six columns"),
        ("1 Q0 d2 2 high t", "'high'"),
        ("1 Q0 d2 2 nan t", "NaN"),
        ("1 Q0 d1 2 0.1 t", "first on line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    """A malformed line, a NaN and a repeated document are errors with file and line number, counting empty lines."""
    path = tmp_path / "a.run"
    path.write_text(f"1 Q0 d1 1 1.0 t\n\n{line}\n")
    with pytest.raises(UserError, match=expected) as caught:
        list(read_run(path))
    assert f"{path}:3: " in str(caught.value)


def test_a_repetition_is_found_across_other_queries(tmp_path: Path) -> None:
    """A repeated pair is found even if other queries are in between; the same document may occur for another query."""
    path = tmp_path / "a.run"
    path.write_text("1\tQ0\td\t1\t1\tt\n2\tQ0\td\t1\t1\tt\n1\tQ0\td\t2\t0\tt\n")
    with pytest.raises(UserError, match=r"a\.run:3: .* line 1;"):
        list(read_run(path))


def test_a_tab_separated_file_must_not_switch_to_spaces(tmp_path: Path) -> None:
    """If the first line has tabs, a line separated by spaces is an error, since ids may contain spaces."""
    path = tmp_path / "a.run"
    path.write_text("1\tQ0\td\t1\t1\tt\n2 Q0 d 1 1 t\n")
    with pytest.raises(UserError, match=r"a\.run:2: .*tabs"):
        list(read_run(path))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that is missing, truncated or not text is a UserError rather than a traceback."""
    with pytest.raises(UserError, match=r"no such run file.*stage=search"):
        list(read_run(tmp_path / "absent.run"))
    write_run(tmp_path / "a.run.gz", [ScoredDoc("1", str(i), 0.0) for i in range(999)], tag="t")
    (tmp_path / "cut.run.gz").write_bytes((tmp_path / "a.run.gz").read_bytes()[:-20])
    (tmp_path / "plain.run.gz").write_text("1 Q0 d 1 1 t\n")
    (tmp_path / "latin.run").write_bytes(b"1 Q0 d\xe9 1 1 t\n")
    for name in ("cut.run.gz", "plain.run.gz", "latin.run"):
        with pytest.raises(UserError, match=name):
            list(read_run(tmp_path / name))


@pytest.mark.parametrize(
    ("scored", "expected"),
    [
        (ScoredDoc("1", "a\tb", 1.0), "doc_id"),
        (ScoredDoc("a\nb", "d", 1.0), "query_id"),
        (ScoredDoc("1", "", 1.0), "doc_id"),
        (ScoredDoc("1", "\u00a0", 1.0), "doc_id"),
        (ScoredDoc("1", "a\0b", 1.0), "doc_id"),
        (ScoredDoc(" 1", "a", 1.0), "query_id ' 1'.* whitespace around it"),
        (ScoredDoc("1", "d", float("nan")), "NaN"),
    ],
)
def test_an_id_or_score_that_cannot_be_read_back_is_not_written(
    tmp_path: Path, scored: ScoredDoc, expected: str
) -> None:
    """An id that would break the columns, or a score of NaN, is an error."""
    with pytest.raises(UserError, match=expected):
        write_run(tmp_path / "a.run", [scored], tag="t")


def test_writing_an_unsorted_ranking_fails(tmp_path: Path) -> None:
    """Scores that rise within a query are a programming error and fail an assertion."""
    with pytest.raises(AssertionError, match="not ranked"):
        write_run(tmp_path / "a.run", [ScoredDoc("1", "a", 1.0), ScoredDoc("1", "b", 2.0)], tag="t")


def test_ties_go_to_the_smaller_id() -> None:
    """The order is score descending, then document id as a text, ascending."""
    assert in_rank_order({"b": 1.0, "c": 2.0, "a": 1.0, "10": 1.0, "9": 1.0}) == ["c", "10", "9", "a", "b"]
