"""Tuning evaluates settings on the development queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.artifact.experiment import Experiment
from irexp.artifact.manifest import read_manifest
from irexp.artifact.store import Store
from irexp.stage.tune import combinations, tune
from irexp.types import UserError
from tests.chains import Compose, settings


@pytest.fixture
def judged(collection: Path) -> Path:
    """The collection with judgements of development queries."""
    (collection / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\n")
    return collection


def tuned(compose: Compose, tmp_path: Path, collection: Path, *more: str) -> list[str]:
    """The overrides that stage=tune finds for BM25."""
    overrides = settings(tmp_path, collection, "model=bm25", "stage=tune", *more)
    config = compose(*overrides)
    experiment = Experiment(tuple(overrides), config)
    return tune(tmp_path, experiment, sweep=list(config.stage.tune.sweep), measure=config.stage.tune.measure)


def test_every_combination_is_measured_on_the_development_queries(
    compose: Compose, tmp_path: Path, judged: Path
) -> None:
    """None uses the test queries, each has its own index, and the first of equal ones is the best."""
    best = tuned(compose, tmp_path, judged, "stage.tune.sweep=['index.k1=0.5,1.5']")
    rows = (tmp_path / "tune.md").read_text().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| index.k1=0.5", "| index.k1=1.5"]
    values = [float(row.split(" | ")[1].rstrip(" |")) for row in rows]
    assert best == [["index.k1=0.5"], ["index.k1=1.5"]][values.index(max(values))]
    store = Store(tmp_path / "artifacts")
    assert len(store.all("index")) == len(store.all("measures")) == 2
    for measures in store.all("measures"):
        dataset = read_manifest(measures)["provenance"]["configuration"]["dataset"]
        assert dataset["test"] == dataset["dev"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["stage.tune.measure=AP"], r"stage\.tune\.measure=AP is not evaluated; evaluation\.measures has .*nDCG@10"),
        (
            ["stage.tune.sweep=['evaluation.measures=[nDCG@10],[AP]']"],
            r"stage\.tune\.sweep: evaluation\.measures=\[AP\]: stage\.tune\.measure=nDCG@10 is not .* has AP$",
        ),
        (["stage.tune.sweep=['rows=null,{A:[]}']"], r"stage\.tune\.sweep: rows=\{A:\[\]\}: stage=tune varies one"),
        (["model=sbert"], r"stage\.tune\.sweep does not fit model=sbert; choose other settings: (.|\n)*index\.k1"),
        (["stage.tune.sweep=['index.b=0.4,2x']"], r"index\.b"),
        (["stage.tune.sweep=['index.k1']"], r"has no values; write them as index\.k1=0\.9,1\.2"),
    ],
)
def test_an_impossible_sweep_is_refused_before_anything_is_made(
    compose: Compose, tmp_path: Path, judged: Path, more: list[str], message: str
) -> None:
    """A measure that is not evaluated, settings of another model, a value of another type, no value."""
    with pytest.raises(UserError, match=message):
        tuned(compose, tmp_path, judged, *more)
    assert not (tmp_path / "artifacts").exists()


def test_tuning_without_development_queries_is_refused(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The error names the missing file of judgements."""
    with pytest.raises(UserError, match=r"dev\.tsv does not exist"):
        tuned(compose, tmp_path, collection)


def test_tuning_without_judgements_is_refused(compose: Compose, tmp_path: Path, judged: Path) -> None:
    """Before the first search."""
    with pytest.raises(UserError, match="stage=tune cannot measure the development queries: "):
        tuned(compose, tmp_path, judged, "dataset.dev.qrels_path=null")
    assert not (tmp_path / "artifacts").exists()


def test_a_table_is_not_tuned(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Of its cells only the last one would be measured, on the queries that its column names."""
    with pytest.raises(UserError, match="set rows=null columns=null suite=none"):
        tuned(compose, tmp_path, collection, 'rows={A:[],B:["index.k1=2"]}')


def test_combinations_keep_lists_whole() -> None:
    """A list is one value, and every combination is tried once, in order."""
    assert combinations(["a=[1,2],[3]"]) == [["a=[1,2]"], ["a=[3]"]]
    assert combinations(["a=1,2", "b=3,4"]) == [["a=1", "b=3"], ["a=1", "b=4"], ["a=2", "b=3"], ["a=2", "b=4"]]
