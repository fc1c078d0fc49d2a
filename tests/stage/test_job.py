"""A job as a process: stopped by hand, then resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


#: Runs `run.py`, prints the number of each batch before it is made, and waits for a signal before a given batch.
WATCHED = """
import runpy, signal, sys, time
from irexp.training.batch import Batches

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it

make, stop_at = Batches.__getitem__, int(sys.argv[1])

def watched(self, number):
    print("batch", number, flush=True)
    while number == stop_at:
        time.sleep(0.01)
    return make(self, number)

Batches.__getitem__ = watched
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(folder: Path, name: str, *, stop_at: int) -> subprocess.Popen[str]:
    """Start a training of 20 steps that can be resumed after every fifth; its log is `<name>.txt`."""
    settings = ["training.steps=20", "training.batch_size=8", "training.validate_every=null"]
    settings += ["machine.resume_every=5", "machine.progress=false"]
    places = [f"paths.artifacts={folder / 'artifacts'}", f"hydra.run.dir={folder / name}"]
    command = [sys.executable, "-c", WATCHED, str(stop_at), str(ROOT / "run.py"), "stage=fit", *settings, *places]
    with (folder / f"{name}.txt").open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)


def batches_of(job: subprocess.Popen[str]) -> Iterator[int]:
    """The numbers of the batches that a job makes, until it ends."""
    assert job.stdout is not None
    return (int(line.split()[1]) for line in job.stdout if line.startswith("batch "))


@pytest.mark.slow
def test_ctrl_c_is_recorded_and_the_same_command_resumes(tmp_path: Path) -> None:
    """The summary says stopped, and the second job trains only the missing steps.

    The first job waits before its thirteenth batch until it is stopped, after saving its tenth step.
    """
    with start(tmp_path, "first", stop_at=12) as first:
        assert 12 in batches_of(first), (tmp_path / "first.txt").read_text()
        first.send_signal(signal.SIGINT)
    text = (tmp_path / "first.txt").read_text()
    assert first.returncode == 1, text
    assert "stopped; the same command resumes where it was" in text
    assert "Traceback" not in text
    assert json.loads((tmp_path / "first" / "summary.json").read_text())["outcome"] == "stopped"
    with start(tmp_path, "again", stop_at=-1) as again:
        made = list(batches_of(again))
    text = (tmp_path / "again.txt").read_text()
    assert again.returncode == 0, text
    assert "resuming the training in" in text
    assert made[:10] == list(range(10, 20))  # those of the missing steps; one more may have been read ahead
