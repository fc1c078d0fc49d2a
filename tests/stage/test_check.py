"""The stage that compares what an experiment measured with what it claims."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from irexp.artifact.experiment import Experiment, compose_experiment
from irexp.artifact.manifest import MANIFEST
from irexp.artifact.plan import make_plan
from irexp.artifact.store import Store
from irexp.config.installation import CONF
from irexp.stage.check import check, check_sweep
from irexp.stage.claim import Claim, read_claims
from irexp.stage.execute import execute, placed
from irexp.stage.recipe import measures_of
from irexp.stage.recorded import Cell, read_cells
from irexp.types import UserError
from tests.chains import Compose

#: The recipes of these tests, on the dozen documents of the fixture `collection`, which the user names.
RECIPES = {
    "toy": """# @package _global_
defaults:
  - override /model: bm25
  - override /dataset: local
baselines: [[model=bm25, index.b=0.2]]
""",
    "grid": """# @package _global_
defaults:
  - override /model: bm25
  - override /dataset: local
rows: {plain: [], short: [index.b=0.2]}
columns: {one: [], two: ['dataset.test.qrels_path=${dataset.path}/qrels/other.tsv']}
mean: true
""",
    "seeded": """# @package _global_
defaults:
  - override /model: sbert
  - override /dataset: local
  - override /training: none
baselines: []
""",
}

README = "# A recipe\n\n- Run: `python run.py experiment={name}`, or another.\n- Source: A paper,\n  Table 1.\n"


@pytest.fixture
def experiments(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of experiments without claims, and a copy of conf/ with their recipes."""
    shutil.copytree(CONF, tmp_path / "conf")
    (collection / "qrels" / "other.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td0\t1\nq2\td1\t1\n")
    for name, text in RECIPES.items():
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(text)
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "README.md").write_text(README.format(name=name))
    folder = tmp_path / "experiments"
    (folder / "README.md").write_text("before\n<!-- table:begin -->\nold\n<!-- table:end -->\nafter\n")
    for module in ("tests.conftest", "irexp.artifact.experiment"):
        monkeypatch.setattr(f"{module}.CONF", tmp_path / "conf")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # of a sweep in this process
    monkeypatch.setattr("irexp.stage.claim.EXPERIMENTS", folder)
    compose_experiment.cache_clear()
    yield folder
    compose_experiment.cache_clear()


@pytest.fixture
def typed(tmp_path: Path, collection: Path) -> list[str]:
    """What a user types besides the recipe, none of which changes a result."""
    return [f"dataset.path={collection}", f"paths.artifacts={tmp_path / 'artifacts'}", "machine.progress=false"]


def run(compose: Compose, overrides: list[str], *stages: str) -> Experiment:
    """Make an experiment's measures and those of its baselines, and run further stages."""
    experiment = Experiment(tuple(overrides), compose(*overrides), compose_experiment(tuple(overrides))[1])
    plan = make_plan(experiment, ["fit", "encode", "index", "search", "evaluate", *stages])
    for _ in execute(plan, Store(experiment.root), experiment.root.parent):
        pass
    return experiment


def checked(compose: Compose, overrides: list[str]) -> None:
    """Run an experiment and the stage."""
    run(compose, overrides, "check")


def claim(folder: Path, name: str, text: str) -> None:
    """Write the claims of an experiment."""
    (folder / name / "expected.yaml").write_text(text)


def values(name: str) -> dict[tuple[str, str], float]:
    """The recorded values of nDCG@10 by place."""
    return {(cell.row, cell.column): cell.measures["nDCG@10"] for cell in read_cells(name)}


def toy(row: str, value: float, tolerance: float = 0.01) -> str:
    """A claim on a recipe of one collection."""
    return f"rows:\n  {row}:\n    nDCG@10: {{value: {value}, tolerance: {tolerance}, source: a test}}\n"


def grid(value: float, *places: tuple[str, str]) -> str:
    """Claims on a recipe of two collections, with a tolerance of 1."""
    lines = ["rows:"]
    for row in dict.fromkeys(row for row, _ in places):
        lines.append(f"  {row}:")
        for column in (column for other, column in places if other == row):
            lines += [f"    {column}:", f"      nDCG@10: {{value: {value}, tolerance: 1, source: a test}}"]
    return "\n".join(lines) + "\n"


#: Typed, another file of judgements; and the label of the toy recipe's first row, of which the other has another b.
OTHER, ROW = "dataset.test.qrels_path=${dataset.path}/qrels/other.tsv", "bm25 index.b=0.75"


@pytest.mark.parametrize(
    ("value", "status"), [(0.5, "OK"), (0.505, "OK"), (0.515, "near"), (0.485, "near"), (0.525, "FAIL")]
)
def test_a_value_within_twice_the_tolerance_is_near(value: float, status: str) -> None:
    """The tolerance is 0.01, on both sides."""
    assert Claim("row", "", "nDCG@10", 0.5, 0.01, "a test").status(value) == status


def test_measures_that_meet_the_claim_are_recorded(
    compose: Compose, experiments: Path, typed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Values, date and machine are written into measured.json and the table, which needs the README of the recipe."""
    claim(experiments, "toy", toy(ROW, 0, tolerance=2))
    readme = (experiments / "toy" / "README.md").rename(experiments / "toy" / "elsewhere.md")
    checked(compose, ["experiment=toy", *typed])
    assert "README.md is not written: " in caplog.text and "toy/README.md has no line `- Run: …`" in caplog.text
    readme.rename(experiments / "toy" / "README.md")
    (value,) = values("toy").values()
    claim(experiments, "toy", toy(ROW, value + 0.015))
    checked(compose, ["experiment=toy", *typed])
    (cell,) = read_cells("toy")
    assert (cell.row, cell.column, cell.seeds) == (ROW, "", [42])
    assert len(cell.date) == len("2026-01-01")
    text = (experiments / "README.md").read_text()
    assert "| [toy](toy/README.md) | A paper, Table 1. | `python run.py experiment=toy` | 1 " in text
    row = next(line for line in text.splitlines() if f"| {ROW} |" in line)
    assert f"| nDCG@10 | {value + 0.015:.4f} | a test | {value:.4f} | near |" in row
    assert all(machine in row for machine in cell.machines) and cell.machines
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text


def test_a_variant_is_compared_and_not_recorded(
    compose: Compose, experiments: Path, typed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With a setting typed, the recipe's own row is recorded, and the changed one leaves its record alone."""
    other = toy("bm25 index.b=0.2", 0, tolerance=2).removeprefix("rows:\n")
    claim(experiments, "toy", toy(ROW, 0, tolerance=2) + other)
    checked(compose, ["experiment=toy", *typed])
    before = (experiments / "toy" / "measured.json").read_text()
    assert len(read_cells("toy")) == 2
    (experiments / "toy" / "measured.json").unlink()
    with caplog.at_level(logging.INFO):
        checked(compose, ["experiment=toy", *typed, OTHER])
    assert read_cells("toy") == []
    assert re.search(
        r"compared and not recorded, since toy alone measures others: bm25 index\.b=0\.2, bm25", caplog.text
    )
    assert caplog.text.count("OK") == 2
    (experiments / "toy" / "measured.json").write_text(before)
    with pytest.raises(UserError, match="no claim is on what was measured"):
        checked(compose, ["experiment=toy", *typed, "rows={another: []}"])
    assert (experiments / "toy" / "measured.json").read_text() == before


def test_a_measure_that_misses_the_claim_fails(compose: Compose, experiments: Path, typed: list[str]) -> None:
    """The error names the row, both values and the source; the table says FAIL."""
    claim(experiments, "toy", toy(ROW, -0.5))
    with pytest.raises(UserError, match=rf"FAIL +{ROW}: nDCG@10 .*expected -0.5000 ± 0.01, a test"):
        checked(compose, ["experiment=toy", *typed])
    assert "| FAIL |" in (experiments / "README.md").read_text()


def test_a_claimed_row_that_the_recipe_does_not_measure_fails(
    compose: Compose, experiments: Path, typed: list[str]
) -> None:
    """Otherwise a claim could be met by measuring nothing."""
    lacking = toy(ROW, 0, tolerance=2).replace("nDCG@10", "nDCG@7")
    claim(experiments, "toy", lacking + toy("splade", 0.5).removeprefix("rows:\n"))
    with pytest.raises(UserError, match=rf"not measured {ROW}: nDCG@7 .*\n +not measured splade: nDCG@10"):
        checked(compose, ["experiment=toy", *typed])
    claim(experiments, "grid", grid(0.5, ("plain", "one"), ("plain", "three")))
    with pytest.raises(UserError, match="not measured plain: three"):
        checked(compose, ["experiment=grid", *typed, "columns={one: []}"])


def test_what_a_partial_run_leaves_out_is_not_run(
    compose: Compose, experiments: Path, typed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One collection, with or without its name, meets its claims; the mean is compared once all were run."""
    places = [(row, column) for row in ("plain", "short") for column in ("one", "two", "mean")]
    claim(experiments, "grid", grid(0.5, *places))
    with caplog.at_level(logging.INFO):
        checked(compose, ["experiment=grid", *typed, "columns=null", "mean=false"])
    assert values("grid").keys() == {("plain", "one"), ("short", "one")}
    assert len(re.findall(r"^  OK ", caplog.text, re.MULTILINE)) == 2
    assert len(re.findall(r"^  not run ", caplog.text, re.MULTILINE)) == 4
    claim(experiments, "grid", grid(0.5, *places, ("again", "one")))
    checked(compose, ["experiment=grid", *typed, "~columns.two", "~rows.short", "+rows.again=[]"])
    assert values("grid").keys() == {("plain", "one"), ("short", "one")}  # another row has the same measures
    claim(experiments, "grid", grid(0.5, *places))
    checked(compose, ["experiment=grid", *typed, "~columns.one", "~rows.short"])
    found = values("grid")
    assert found.keys() == {("plain", "one"), ("short", "one"), ("plain", "two"), ("plain", "mean")}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        checked(compose, ["experiment=grid", *typed])
    assert len(re.findall(r"^  OK ", caplog.text, re.MULTILINE)) == 6
    found = values("grid")
    assert found.keys() == set(places)
    assert found["plain", "one"] != found["plain", "two"]
    mean = (found["plain", "one"] + found["plain", "two"]) / 2
    assert found["plain", "mean"] == pytest.approx(mean, abs=1e-6)
    assert "| plain | mean nDCG@10 | 0.5000 | a test |" in (experiments / "README.md").read_text()


def test_a_record_names_every_commit_and_machine(compose: Compose, experiments: Path, typed: list[str]) -> None:
    """An index of another commit, made on a GPU, is seen in the record of the measures."""
    claim(experiments, "toy", toy(ROW, 0, tolerance=2))
    artifacts = run(compose, ["experiment=toy", *typed], "report").root
    manifests = list((artifacts / "index").glob(f"*/{MANIFEST}"))
    assert len(manifests) == 2
    for path in manifests:
        manifest = json.loads(path.read_text())
        manifest["provenance"]["git"] = {"commit": "0123456789abcdef", "dirty": True}
        manifest["provenance"]["hardware"]["gpus"] = ["a large GPU"]
        manifest["provenance"]["seconds"] = 600.0
        del manifest["checksum"]
        path.write_text(json.dumps(manifest))
    checked(compose, ["experiment=toy", *typed])
    (cell,) = read_cells("toy")
    assert cell.commits[0] == "0123456789 with changes" and len(cell.commits) == 2
    assert cell.machines[0] == "a large GPU" and len(cell.machines) == 2
    assert cell.minutes is not None and cell.minutes >= 10


def test_jobs_of_a_sweep_are_compared_together(compose: Compose, experiments: Path, typed: list[str]) -> None:
    """A claim on several seeds is recorded as their mean; a single seed is compared, and does not replace it."""
    text = toy("sbert before fine-tuning", 0, tolerance=2) + "seeds: [1, 2]\n"
    claim(experiments, "seeded", text)
    sweep = experiments.parent / "sweep"
    for seed in (1, 2):
        later(compose, sweep / str(seed), ["experiment=seeded", *typed, f"seed={seed}"])
    check_sweep(sweep)
    (cell,) = read_cells("seeded")
    assert cell.seeds == [1, 2] and len(cell.artifacts) == 2
    assert "(2 seeds) | OK |" in (experiments / "README.md").read_text()
    checked(compose, ["experiment=seeded", *typed, "seed=2"])
    assert read_cells("seeded") == [cell]
    claim(experiments, "seeded", text.replace("value: 0, tolerance: 2", "value: -1, tolerance: 0.1"))
    check_sweep(sweep)
    jobs = [json.loads((sweep / str(seed) / "summary.json").read_text()) for seed in (1, 2)]
    assert [job["outcome"] for job in jobs] == ["failed"] * 2
    assert all("does not meet its claims" in job["error"] for job in jobs)


def later(compose: Compose, folder: Path, overrides: list[str]) -> None:
    """Leave what a job of a sweep leaves in its folder."""
    experiment = run(compose, overrides)
    plan = make_plan(experiment, ["evaluate", "check"])
    found = {step: Store(experiment.root).look(step.artifact) for step in plan.steps}
    measures = measures_of("seeded", placed(plan, found), experiment, read_claims("seeded").seeds)
    folder.mkdir(parents=True)
    content = {"artifacts": str(experiment.root), "measures": measures.to_dict()}
    (folder / "check.json").write_text(json.dumps(content))
    (folder / "summary.json").write_text(json.dumps({"outcome": "done", "error": None}))


def test_an_experiment_without_a_claim_is_refused(
    compose: Compose, tmp_path: Path, experiments: Path, typed: list[str]
) -> None:
    """The error lists the experiments that have one."""
    claim(experiments, "toy", toy(ROW, 0.5))
    overrides = ["experiment=grid", *typed]
    experiment = Experiment(tuple(overrides), compose(*overrides), {"experiment": "grid"})
    with pytest.raises(UserError, match="is one of toy"):
        check(tmp_path, [], experiment, artifacts=str(tmp_path / "artifacts"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {}\nseed: 3\n", "expected.yaml: seed is not a key of this file"),
        ("rows: {}\nseeds: 3\n", r"seeds=3 must be a list of integers"),
        ("rows: {sbert: {nDCG@10: {value: 0.5, source: a test}}}\n", "sbert nDCG@10 needs value, tolerance and source"),
    ],
)
def test_a_wrong_file_of_claims_is_refused(experiments: Path, text: str, message: str) -> None:
    """The error names the file and what is wrong in it, in one line."""
    claim(experiments, "toy", text)
    with pytest.raises(UserError, match=message) as error:
        read_claims("toy")
    assert "\n" not in str(error.value)


def test_a_cell_is_read_as_it_was_written(experiments: Path) -> None:
    """measured.json holds every field of a cell."""
    cell = Cell("row", "", {"nDCG@10": 0.5}, [1], "2026-01-01", ["a"], ["b"], 1.5, ["measures/c"])
    (experiments / "toy" / "measured.json").write_text(json.dumps({"cells": [vars(cell)]}))
    assert read_cells("toy") == [cell]


def run_py(project: Path, *overrides: str) -> tuple[int, str]:
    """Run a command in a project's folder; its exit status and what it prints."""
    command = [sys.executable, "run.py", *overrides, "hydra.run.dir=output", "hydra.sweep.dir=sweep"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr  # at the end of a sweep, Hydra logs to stdout


@pytest.mark.slow
def test_the_command_sets_the_exit_status_by_its_claims(experiments: Path, typed: list[str]) -> None:
    """OK and near are 0, FAIL is 1, for a job and at the end of a sweep, with a line per claim."""
    project = experiments.parent
    (project / "irexp").symlink_to(CONF.parent / "irexp")
    shutil.copy(CONF.parent / "run.py", project)
    claim(experiments, "toy", toy(ROW, 0, tolerance=2))
    status, text = run_py(project, "experiment=toy", "stage=[index,search,check]", *typed)
    assert status == 0, text
    assert re.search(rf"^  OK +{ROW}: nDCG@10 ", text, re.MULTILINE)
    (value,) = values("toy").values()
    claim(experiments, "toy", toy(ROW, value + 0.015))
    status, text = run_py(project, "-m", "experiment=toy", "stage=check", *typed)
    assert status == 0, text
    assert re.search(rf"^  near +{ROW}: nDCG@10 {value:.4f}, expected", text, re.MULTILINE)
    claim(experiments, "toy", toy(ROW, value + 0.025))
    for sweep in ([], ["-m"]):
        status, text = run_py(project, *sweep, "experiment=toy", "stage=check", *typed)
        assert status == 1, text
        assert "UserError: experiment=toy does not meet its claims:" in text
        assert re.search(rf"^  FAIL +{ROW}: nDCG@10 {value:.4f}, expected", text, re.MULTILINE)
