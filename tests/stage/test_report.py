"""The table of a store: its rows, columns and seeds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from irexp import load
from irexp.artifact.experiment import composed
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import Placed, make_plan
from irexp.artifact.store import Store
from irexp.config.schema import Evaluation
from irexp.evaluation.table import Table
from irexp.stage.execute import execute
from irexp.stage.pivot import pivot
from irexp.stage.report import report
from irexp.types import UserError
from tests.chains import STAGES, Compose, run, settings


def table_of(tmp_path: Path, *measures: str) -> Table:
    """The table of everything that was measured."""
    return report(tmp_path, None, artifacts=str(tmp_path / "artifacts"), evaluation=evaluation(*measures))


def evaluation(*measures: str) -> Evaluation:
    """Measures, with a significance test between rows."""
    return Evaluation(list(measures), "t", 100, "holm", 0.05)


def test_other_documents_make_another_column(
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
    table = table_of(tmp_path, "nDCG@10")
    assert table.collections == ("toys-1", "toys-2")
    assert [row.label for row in table.rows if all(map(row.of, table.collections))] == ["bm25"]
    lines = table.to_markdown().splitlines()
    assert lines[2].startswith("| bm25 ") and "–" not in lines[2]
    assert [line.count("–") for line in lines[3:7]] == [1] * 4  # of two run files
    assert re.search(r"Runs from elsewhere: \S*other/toys/a.run, \S*/toys/a.run\.", table.footer)
    for number, folder in enumerate((collection, other), 1):
        assert f"toys-{number} has dataset.path={folder}" in caplog.text
    assert len({result.artifacts["measures"] for row in table.rows for result in row.results}) == 6


def test_a_run_that_was_measured_twice_has_one_row(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The same run under other measures is no further comparison, by which the correction would multiply p-values."""
    for typed in (["model=bm25"], ["model=bm25", "index.b=0.1"]):
        run(compose, settings(tmp_path, collection, *typed))
    before = table_of(tmp_path, "nDCG@10", "RR@10")
    for typed in (["model=bm25"], ["model=bm25", "index.b=0.1"]):
        run(compose, settings(tmp_path, collection, *typed, 'evaluation.measures=["P@1","nDCG@10"]'))
    assert len(list((tmp_path / "artifacts" / "measures").glob("bm25.*"))) == 4
    table = table_of(tmp_path, "nDCG@10", "RR@10")
    assert [row.label for row in table.rows] == ["bm25 index.b=0.75", "bm25 index.b=0.1"]
    assert (table.to_markdown(), table.footer) == (before.to_markdown(), before.footer)
    both = table_of(tmp_path, "P@1", "RR@10")  # of which no evaluation measured both
    values = [row.results[0].measured.aggregated for row in both.rows]
    assert [(value["P@1"], value["RR@10"]) for value in values] == [(0.5, 0.5)] * 2
    assert all(len(row.results[0].artifacts["measures"].split()) == 2 for row in both.rows)


def test_nothing_of_an_earlier_table_in_the_folder_stays_beside_a_new_one(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Comparisons, costs and the page, which this table of one row lacks; other files are not its own."""
    output = tmp_path / "output"
    output.mkdir()
    stale = ("table.comparisons.md", "table.speed.md", "table.speed.png", "table.toys.speed.md", "report.html")
    for name in (*stale, "table.xlsx"):
        (output / name).touch()
    run(compose, settings(tmp_path, collection, "model=bm25"))
    report(output, None, artifacts=str(tmp_path / "artifacts"), evaluation=evaluation("RR@10"))
    expected = {"table.csv", "table.json", "table.md", "table.tex", "table.xlsx"}
    assert {path.name for path in output.iterdir()} == expected


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
        placed = [Placed(folder)]
        table = report(tmp_path, placed, artifacts=str(tmp_path / "artifacts"), evaluation=evaluation("RR@10"))
        found[round(measured.measures["RR@10"], 4)] = (
            "grades from 1 (the highest is 2)" in table.footer,
            "grades from 2 (the highest is 2)" in table.footer,
            "own id is not a result" in (tmp_path / "table.md").read_text(),
        )
    assert found == {0.5: (True, False, False), 0.3333: (False, True, True)}


@pytest.mark.slow
def test_rows_and_columns_are_named_by_the_experiment(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Every cell is an experiment; what they share is made once, and the table has the given names."""
    (collection / "qrels" / "other.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\n")
    overrides = settings(
        tmp_path,
        collection,
        'rows={BM25: ["model=bm25"], ours: [], mine: ["seed=7"]}',
        f'columns={{here: [], there: ["dataset.test.qrels_path={collection}/qrels/other.tsv"]}}',
        "against={mine: ours}",
        "mean=true",
    )
    experiment = composed(overrides)
    plan = make_plan(experiment, [*STAGES, "report"])
    store = Store(tmp_path / "artifacts")
    outcomes = [(step, outcome, result) for step, outcome, result in execute(plan, store, tmp_path)]
    table = outcomes[-1][2]
    assert [row.label for row in table.rows] == ["BM25", "ours", "mine"]
    assert table.collections == ("here", "there", "mean")
    assert "mine with ours" in table.footer
    made = [step.name for step, outcome, _ in outcomes if outcome.status == "made"]
    assert len(made) == len(set(made)) and len(made) == 5 + 2 * 7  # of BM25, and of the model with either seed
    assert len(list((tmp_path / "artifacts" / "encoding").glob("[!.]*"))) == 2  # of two seeds
    assert [step.name for step in plan.own] == [step.name for step, _, _ in outcomes]


def test_seeds_are_one_row_and_other_settings_are_not(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """A store with two seeds and two depths of training."""
    for typed in (["seed=1"], ["seed=2"], ["seed=1", "model.pooling=cls"]):
        run(compose, settings(tmp_path, collection, *typed))
    table = table_of(tmp_path, "nDCG@10")
    assert [(row.label, len(row.results)) for row in table.rows] == [
        ("sbert model.pooling=mean before fine-tuning", 2),
        ("sbert model.pooling=cls before fine-tuning", 1),
    ]
    assert "mean and standard deviation of 2 seeds" in table.footer
    assert "Documents: title and text." in table.footer and "Search: exact." in table.footer


def test_experiments_that_differ_in_more_than_seeds_are_not_averaged(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Not even with other seeds: in the content of a file that both name, or that of a run of another program."""
    excluded, their = tmp_path / "excluded.txt", tmp_path / "their.run"
    for seed, line in ((1, "d3\n"), (2, "d1\n")):
        excluded.write_text(line)
        run(compose, settings(tmp_path, collection, "model=bm25", f"seed={seed}", f"search.exclude_path={excluded}"))
    for text in ("d0 Q0 d3 1 2.0 x\n", "d0 Q0 d1 1 2.0 x\n"):
        their.write_text(text)
        for seed in (3, 4):
            run(compose, settings(tmp_path, collection, f"artifact.run={their}", f"seed={seed}"), ["evaluate"])
    table = table_of(tmp_path, "nDCG@10")
    assert [row.label.split()[0] for row in table.rows] == ["bm25"] * 2 + ["their.run"] * 2
    assert len({row.label for row in table.rows}) == 4 and [len(row.results) for row in table.rows] == [1, 1, 1, 1]


def test_a_named_row_holds_one_experiment(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Two seeds of one, but not of two under one name."""
    placed = []
    for seed, depth in ((1, 5), (2, 5), (3, 7)):
        typed = settings(tmp_path, collection, "model=bm25", f"seed={seed}", f"search.depth={depth}")
        measured = run(compose, typed)["evaluate"].path
        placed.append(Placed(Path(str(measured)), row="ours", column=None))
    lineage = Lineage(Store(tmp_path / "artifacts"))
    assert {one.result.label for one in pivot(placed[:2], lineage)} == {"ours"}
    with pytest.raises(UserError, match="rows: 'ours' holds experiments on one collection that differ in more than"):
        pivot(placed, lineage)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("rows={a: bm25}", "rows: .*bm25"),
        ('rows={a: ["modl=bm25"]}', "row a: .*modl"),
        ('columns={a: ["dataset=vaswan"]}', "column a: .*vaswan"),
        ("against={a: b}", "only if rows=.* gives them"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, collection: Path, typed: str, message: str) -> None:
    """Before anything is made, in the message that lists all faults."""
    with pytest.raises(UserError, match=f"(?s){message}"):
        make_plan(composed(settings(tmp_path, collection, typed)), [*STAGES, "report"])
    with pytest.raises(UserError, match="there is no row 'b'"):
        composed(settings(tmp_path, collection, "rows={a: [], c: []}", "against={a: b}"))


def sentence(table: Table, title: str) -> str:
    """The sentence of a table's foot that begins with a title."""
    (found,) = re.findall(rf"(?<= ){title}: .*?\.(?= |$)", table.footer)
    return str(found)


def test_the_foot_says_the_lengths_that_were_used(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Where the configuration leaves them to the checkpoint, those of the checkpoint; of rows that differ, whose."""
    run(compose, settings(tmp_path, collection))
    title = "Longest query and document"
    encoder = load(next((tmp_path / "artifacts" / "checkpoint").glob("sbert*")))
    used = f"{encoder.query_length} and {encoder.document_length} tokens"
    assert sentence(table_of(tmp_path, "nDCG@10"), title) == f"{title}: {used}."
    run(compose, settings(tmp_path, collection, "model.query_length=7", "model.document_length=9"))
    run(compose, settings(tmp_path, collection, "model=bm25"))
    table = table_of(tmp_path, "nDCG@10")
    assert len(table.rows) == 3
    assert used in sentence(table, title) and "7 and 9 tokens (sbert" in sentence(table, title)
    assert "bm25" not in sentence(table, title)


def test_the_foot_says_how_first_stages_were_searched(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approximate and exact searches, and what a re-ranked or a fused run was made from, as it was recorded.

    So a table asks no engine, whose import takes a second. In older manifests nothing was recorded: then it asks.
    """
    (tmp_path / "their.run").write_text("d0 Q0 d3 1 9 theirs\nq2 Q0 d1 1 9 theirs\n")
    approximate = '["model=sbert","index=faiss_hnsw","training=none"]'
    names = [*STAGES, "re_rank", "fuse"]
    for typed in (
        ["index=faiss_hnsw"],
        ["model=bm25"],
        ["model=mono", "re_rank=bm25", "re_rank.depth=5"],
        ["model=mono", f"re_rank.candidates={tmp_path}/their.run", "re_rank.depth=5"],
        ["model=fusion", f'fuse.runs=[["model=bm25"],{approximate}]'],
    ):
        run(compose, settings(tmp_path, collection, *typed), names)
    said = sentence(table_of(tmp_path, "nDCG@10"), "Search")
    assert "approximate (sbert before fine-tuning)" in said and "exact (bm25)" in said
    assert "the best 5 of an exact search, re-ranked (mono over bm25 before fine-tuning)" in said
    assert "the best 5 of another run, re-ranked (mono over their.run before fine-tuning)" in said
    assert "a fusion of an exact search and an approximate search (rrf of bm25 + sbert before fine-tuning)" in said
    asked: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr("irexp.stage.conventions.get_class", asked.append)
        assert sentence(table_of(tmp_path, "nDCG@10"), "Search") == said and asked == []
    for path in tmp_path.glob("artifacts/run/*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["checksum"]  # as in old manifests
        manifest["provenance"].pop("is_exact", None)
        path.write_text(json.dumps(manifest))
    assert sentence(table_of(tmp_path, "nDCG@10"), "Search") == said


def test_the_default_grade_is_the_same_column_if_it_is_typed(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Grades from 1 are relevant, whether that is said or not."""
    for typed in ([], ["dataset.test.relevance=1"]):
        run(compose, settings(tmp_path, collection, "model=bm25", *typed))
    table = table_of(tmp_path, "nDCG@10")
    assert table.collections == ("toys",) and len(table.rows) == 1


def test_artifacts_are_recorded_by_the_names_that_they_have(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Another collection with the same documents uses the index of the first, which keeps its name."""
    other = shutil.copytree(collection, tmp_path / "other")
    (other / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\n")
    for folder in (collection, other):
        run(compose, settings(tmp_path, folder, "model=bm25"))
    lineage = Lineage(Store(tmp_path / "artifacts"))
    (name,) = [name for name in lineage.manifests if name.startswith("measures/bm25.other-")]
    recorded = lineage.manifests[name]["provenance"]["configuration"]["artifact"]
    assert recorded["index"].startswith("index/bm25.toys-")
    assert lineage.find(recorded["index"].replace("toys", "other")) == recorded["index"]


@pytest.mark.slow
def test_seeds_of_each_content_of_a_file_are_a_row(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The same command after a change of a file that it names is another row, whose seeds are averaged as before."""
    excluded = tmp_path / "excluded.txt"
    for line in ("d3\n", "d1\n"):
        excluded.write_text(line)
        for seed in (1, 2):
            run(compose, settings(tmp_path, collection, f"seed={seed}", f"search.exclude_path={excluded}"))
    table = table_of(tmp_path, "nDCG@10")
    assert [len(row.results) for row in table.rows] == [2, 2]
    assert len({row.label for row in table.rows}) == 2
