"""Settings that are tried on the development queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.artifact.store import Store, read_manifest
from irexp.stage.job import _tune
from irexp.types import UserError
from tests.chains import Compose, settings


def test_every_combination_is_measured_on_the_development_queries(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """None of them on the test queries, each with an index of its own, and the best is said."""
    (collection / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\n")
    overrides = settings(tmp_path, collection, "model=bm25", "stage=tune", "stage.tune.sweep=['index.k1=0.5,1.5']")
    _tune(compose(*overrides), overrides, tmp_path)
    rows = (tmp_path / "tune.md").read_text().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| index.k1=0.5", "| index.k1=1.5"]
    store = Store(tmp_path / "artifacts")
    assert len(store.all("index")) == len(store.all("measures")) == 2
    for measures in store.all("measures"):
        dataset = read_manifest(measures)["provenance"]["configuration"]["dataset"]
        assert dataset["test"] == dataset["dev"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["stage.tune.measure=AP"], r"stage\.tune\.measure=AP is not measured; evaluation\.measures has .*nDCG@10"),
        (["model=sbert"], r"stage\.tune\.sweep fits no sbert, so name other settings: .*index\.k1"),
        (["stage.tune.sweep=['index.b=0.4,2x']"], r"index\.b"),
    ],
)
def test_what_cannot_be_tried_is_said_before_anything_is(
    compose: Compose, tmp_path: Path, collection: Path, more: list[str], message: str
) -> None:
    """A measure that is not taken, settings of another model, a value of another type."""
    (collection / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\n")
    overrides = settings(tmp_path, collection, "model=bm25", "stage=tune", *more)
    with pytest.raises(UserError, match=message):
        _tune(compose(*overrides), overrides, tmp_path)
    assert not (tmp_path / "artifacts").exists()


def test_without_development_queries_there_is_nothing_to_try_on(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """The file of their judgements is named."""
    overrides = settings(tmp_path, collection, "model=bm25", "stage=tune")
    with pytest.raises(UserError, match=r"dev\.tsv is not there"):
        _tune(compose(*overrides), overrides, tmp_path)
