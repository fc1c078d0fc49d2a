"""The stage that compares what an experiment measured with what it claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import Placed
from irexp.stage import check as module
from irexp.stage.check import check
from irexp.types import UserError
from tests.chains import Compose, run, settings

CLAIM = "rows:\n  sbert before fine-tuning:\n    nDCG@10: {{value: {value}, tolerance: {tolerance}, source: a test}}\n"


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the claim of one experiment."""
    folder = tmp_path / "experiments"
    (folder / "toy").mkdir(parents=True)
    (folder / "README.md").write_text("before\n<!-- table:begin -->\nold\n<!-- table:end -->\nafter\n")
    monkeypatch.setattr(module, "EXPERIMENTS", folder)
    return folder


def checked(compose: Compose, tmp_path: Path, collection: Path, name: str = "toy") -> float:
    """Run the stages of an untrained model, and the check; the measured value."""
    overrides = settings(tmp_path, collection, "baselines=[]")
    made = run(compose, overrides)["evaluate"]
    experiment = Experiment(tuple(overrides), compose(*overrides), {"experiment": name})
    check(tmp_path, [Placed(Path(str(made.path)))], experiment, artifacts=str(tmp_path / "artifacts"))
    return made.measures["nDCG@10"]


@pytest.mark.parametrize(("distance", "status"), [(0.005, "OK"), (0.015, "near")])
def test_measures_that_meet_the_claim_are_recorded(
    compose: Compose, tmp_path: Path, collection: Path, experiments: Path, distance: float, status: str
) -> None:
    """Values, date and processor are written into measured.json and into the table."""
    value = run(compose, settings(tmp_path, collection, "baselines=[]"))["evaluate"].measures["nDCG@10"]
    (experiments / "toy" / "expected.yaml").write_text(CLAIM.format(value=value + distance, tolerance=0.01))
    assert checked(compose, tmp_path, collection) == value
    measured = json.loads((experiments / "toy" / "measured.json").read_text())
    assert measured["rows"]["sbert before fine-tuning"]["nDCG@10"] == pytest.approx(value, abs=1e-6)
    assert len(measured["date"]) == len("2026-01-01")
    text = (experiments / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| [toy](toy/README.md) |"))
    assert f"| {value + distance:.4f} | {value:.4f} | {status} |" in row
    assert measured["processor"] in row
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text


def test_a_measure_that_misses_the_claim_fails(
    compose: Compose, tmp_path: Path, collection: Path, experiments: Path
) -> None:
    """The error names the row, both values and the source; the table says FAIL."""
    (experiments / "toy" / "expected.yaml").write_text(CLAIM.format(value=-0.5, tolerance=0.01))
    with pytest.raises(UserError, match=r"FAIL +sbert before fine-tuning: nDCG@10 .*expected -0.5000 ± 0.01, a test"):
        checked(compose, tmp_path, collection)
    assert "| FAIL |" in (experiments / "README.md").read_text()


def test_a_row_that_was_not_measured_fails(
    compose: Compose, tmp_path: Path, collection: Path, experiments: Path
) -> None:
    """Otherwise a claim could be met by measuring nothing."""
    (experiments / "toy" / "expected.yaml").write_text(CLAIM.format(value=0.5, tolerance=1).replace("sbert", "splade"))
    with pytest.raises(UserError, match="not measured splade before fine-tuning"):
        checked(compose, tmp_path, collection)


def test_an_experiment_without_a_claim_is_refused(
    compose: Compose, tmp_path: Path, collection: Path, experiments: Path
) -> None:
    """The error lists the experiments that have one."""
    (experiments / "toy" / "expected.yaml").write_text(CLAIM.format(value=0.5, tolerance=1))
    with pytest.raises(UserError, match="is one of toy"):
        checked(compose, tmp_path, collection, name="other")
