"""The three models of the paper on halves of the embedded documents: values of a short training, measured before."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.jobs import ROOT

#: nDCG@10 of each row after 20 steps with 40 tokens per document; experiments/sbert_splade_colbert has those of a whole
#: training.
EXPECTED = {
    "BM25": 0.7524,
    "SBERT before fine-tuning": 0.2343,
    "SBERT": 0.7125,
    "SPLADE before fine-tuning": 0.7516,
    "SPLADE": 0.7654,
    "ColBERT before fine-tuning": 0.3727,
    "ColBERT": 0.7571,
}


@pytest.mark.slow
def test_one_command_makes_the_table_of_three_models(tmp_path: Path) -> None:
    """Two processes make each of 33 artifacts once; the values are the expected ones up to a processor's rounding."""
    command = [
        *(sys.executable, str(ROOT / "run.py"), "-m", "experiment=sbert_splade_colbert", "hydra/launcher=graph"),
        *("training.steps=20", "training.validate_every=null", "dataset.document_length=40"),
        *("machine.threads=1", "machine.progress=false"),
        *("paths.artifacts=artifacts", "hydra.sweep.dir=output"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    made = re.findall(r"graph: (\w+ \S+) done in", text)
    assert len(made) == len(set(made)) == 33
    with (tmp_path / "output" / "table.csv").open(encoding="utf8", newline="") as file:
        found = {row["label"]: float(row["aws_howto nDCG@10"]) for row in csv.DictReader(file)}
    assert found == pytest.approx(EXPECTED, abs=0.03)
    assert list(found) == list(EXPECTED)
