"""Every experiment has its recipe, its claim and its numbers, and the small ones meet them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/expected.yaml"))
VASWANI = ROOT.parent / "shared" / "collections" / "vaswani"


def expected(name: str) -> dict[str, dict[str, Any]]:
    """Row → measure → value, tolerance and source."""
    rows = OmegaConf.to_container(OmegaConf.load(ROOT / "experiments" / name / "expected.yaml"))
    assert isinstance(rows, dict)
    return dict(rows["rows"])


def test_every_recipe_has_its_claim_and_the_reverse() -> None:
    """conf/experiment and experiments/ hold the same names, and there are at least two."""
    assert sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")) == NAMES
    assert len(NAMES) >= 2
    for name in NAMES:
        text = (ROOT / "experiments" / name / "README.md").read_text(encoding="utf8")
        assert all(f"\n- {part}: " in text for part in ("Run", "Source", "Cost"))
        assert f"experiment={name}" in text


def test_the_table_says_what_is_expected_and_was_measured() -> None:
    """experiments/README.md lists every row of every experiment, each measured within its tolerance."""
    table = (ROOT / "experiments" / "README.md").read_text(encoding="utf8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    listed = [line[:4] for line in lines if re.fullmatch(r"0\.\d+", line[3])]
    rows = [(name, row, measures["nDCG@10"]) for name in NAMES for row, measures in expected(name).items()]
    assert len(listed) == len(rows)
    for (_, row, value), (_, shown, wanted, measured) in zip(rows, listed, strict=True):
        assert (shown, float(wanted)) == (row, value["value"])
        assert float(measured) == pytest.approx(value["value"], abs=value["tolerance"])


def test_the_readme_shows_what_the_families_measured() -> None:
    """The table of all families in the README is that of their experiment."""
    section = (ROOT / "README.md").read_text(encoding="utf8").partition("<!-- families:begin -->")[2]
    lines = [line.split("|") for line in section.partition("<!-- families:end -->")[0].splitlines() if "0." in line]
    shown = {cells[1].strip(): float(cells[2]) for cells in lines}
    assert shown == {row: measures["nDCG@10"]["value"] for row, measures in expected("families").items()}


def run(name: str, folder: Path, *overrides: str) -> dict[str, float]:
    """Run an experiment; row → nDCG@10."""
    command = [sys.executable, "run.py", f"experiment={name}", *overrides, "machine.progress=false"]
    command += [f"paths.artifacts={folder / 'artifacts'}", f"hydra.run.dir={folder / 'output'}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| ([^|]+?) +\| +\**(0\.\d{4})", done.stderr, re.MULTILINE)
    return {label: float(value) for label, value in rows}


@pytest.mark.slow
@pytest.mark.skipif(not VASWANI.is_dir(), reason="the Vaswani collection is not beside this checkout")
def test_vaswani_zero_shot(tmp_path: Path) -> None:
    """From a folder rather than from ir_datasets, since there is no network; all else as the recipe says."""
    found = run("vaswani_zero_shot", tmp_path, "dataset=local", f"dataset.path={VASWANI}")
    for row, measures in expected("vaswani_zero_shot").items():
        value = measures["nDCG@10"]
        assert found[row] == pytest.approx(value["value"], abs=value["tolerance"])
