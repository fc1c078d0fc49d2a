"""The tables of a store: which rows share one, and that a run has one row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from irexp.config.schema import Evaluation
from irexp.evaluation.table import Table
from irexp.stage.report import report
from tests.chains import Compose, run, settings


def tables(tmp_path: Path, *measures: str) -> dict[str, Table]:
    """The tables of everything that was measured."""
    return report(tmp_path, None, artifacts=str(tmp_path / "artifacts"), evaluation=evaluation(*measures))


def evaluation(*measures: str) -> Evaluation:
    """Measures, with a significance test between rows."""
    return Evaluation(list(measures), "t", 100, "holm", 0.05)


def test_other_documents_make_another_table(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Equal queries and judgements are not enough: own runs, fused runs and run files are grouped by documents."""
    other = shutil.copytree(collection, tmp_path / "other" / "toys")
    with (other / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d99", "text": "make cups of cups"}\n')
    caplog.set_level("WARNING")
    for folder in (collection, other):
        given = folder / "a.run"
        given.write_text(f"d0 Q0 d3 1 {len(str(folder))} theirs\n")
        for typed in (["model=bm25"], [f"artifact.run={given}"]):
            run(compose, settings(tmp_path, folder, *typed))
        runs = f'fuse.runs=[["model=bm25"],{given}]'
        run(compose, settings(tmp_path, folder, "model=fusion", runs), ["index", "search", "fuse", "evaluate"])
    found = tables(tmp_path, "nDCG@10")
    assert list(found) == ["toys-1", "toys-2"]
    labels = [[row.label for row in table.rows] for table in found.values()]
    assert [row[:1] for row in labels] == [["bm25"], ["bm25"]]
    assert [sorted(row) for row in labels] == [["a.run", "bm25", "rrf of bm25 + a.run"]] * 2
    for number, folder in enumerate((collection, other), 1):
        assert f"toys-{number} has dataset.path={folder}" in caplog.text
    assert len({row.artifacts["measures"] for table in found.values() for row in table.rows}) == 6


def test_a_run_that_was_measured_twice_has_one_row(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The same run under other measures is no further comparison, by which the correction would multiply p-values."""
    for typed in (["model=bm25"], ["model=bm25", "index.b=0.1"]):
        run(compose, settings(tmp_path, collection, *typed))
    before = tables(tmp_path, "nDCG@10", "RR@10")
    for typed in (["model=bm25"], ["model=bm25", "index.b=0.1"]):
        run(compose, settings(tmp_path, collection, *typed, 'evaluation.measures=["RR@10","nDCG@10"]'))
    assert len(list((tmp_path / "artifacts" / "measures").glob("bm25.*"))) == 4
    ((name, table),) = tables(tmp_path, "nDCG@10", "RR@10").items()
    assert [row.label for row in table.rows] == ["bm25 index.b=0.75", "bm25 index.b=0.1"]
    assert table == before[name]


def test_the_foot_of_a_table_says_what_the_collection_counts(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """The grade and the removal of the query's own document are the collection's, also for run files from elsewhere."""
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\nd0\td3\t2\n")
    lines = [f"d0 Q0 d{rank} {rank + 1} {9 - rank} theirs\n" for rank in range(4)]
    (tmp_path / "a.run").write_text("".join(lines))
    given = settings(tmp_path, collection, f"artifact.run={tmp_path / 'a.run'}", 'evaluation.measures=["RR@10"]')
    found = {}
    for conventions in ([], ["dataset.test.relevance=2", "dataset.test.remove_query=true"]):
        measured = run(compose, [*given, *conventions], ["evaluate"])["evaluate"]
        folder = Path(str(measured.path))
        (table,) = report(
            tmp_path, [folder], artifacts=str(tmp_path / "artifacts"), evaluation=evaluation("RR@10")
        ).values()
        found[round(measured.measures["RR@10"], 4)] = (
            "grades from 1 (the highest is 2)" in table.footer,
            "grades from 2 (the highest is 2)" in table.footer,
            "own id is not a result" in (tmp_path / "table.md").read_text(),
        )
    assert found == {0.5: (True, False, False), 0.3333: (False, True, True)}
