"""A job as a process: stopped by hand, and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(folder: Path, output: str, steps: int) -> list[str]:
    """A training that leaves something to go on from after every fifth step."""
    settings = [f"training.steps={steps}", "training.batch_size=8", "training.validate_every=null"]
    settings += ["machine.resume_every=5", "machine.progress=false"]
    places = [f"paths.artifacts={folder / 'artifacts'}", f"hydra.run.dir={folder / output}"]
    return [
        sys.executable,
        "run.py",
        "stage=fit",
        *settings,
        *places,
        "machine.resume_every=5",
        "machine.progress=false",
    ]


@pytest.mark.slow
def test_ctrl_c_is_recorded_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """The record says stopped, and what was trained so far is taken up."""
    stopped = subprocess.Popen(command(tmp_path, "first", 300), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("artifacts/checkpoint/.partial-*/.training/last.ckpt")):
        assert stopped.poll() is None, stopped.communicate()[1]
        time.sleep(0.2)
    stopped.send_signal(signal.SIGINT)
    _, text = stopped.communicate(timeout=120)
    assert stopped.returncode == 1
    assert "stopped; the same command goes on where it was" in text
    assert "Traceback" not in text
    assert json.loads((tmp_path / "first" / "summary.json").read_text())["outcome"] == "stopped"
    again = subprocess.run(
        command(tmp_path, "second", 300), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert "going on with the training in" in again.stderr
