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
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_is_recorded_and_the_same_command_resumes(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """The status is a shell's for the signal, the summary says stopped, and the second job trains the missing steps.

    The first job waits before its thirteenth batch until it is stopped, after saving its tenth step.
    """
    with start(tmp_path, "first", stop_at=12) as first:
        assert 12 in batches_of(first), (tmp_path / "first.txt").read_text()
        first.send_signal(number)
    text = (tmp_path / "first.txt").read_text()
    assert first.returncode == status, text
    assert "stopped; the same command resumes where it was" in text
    assert "Traceback" not in text
    assert json.loads((tmp_path / "first" / "summary.json").read_text())["outcome"] == "stopped"
    with start(tmp_path, "again", stop_at=-1) as again:
        made = list(batches_of(again))
    text = (tmp_path / "again.txt").read_text()
    assert again.returncode == 0, text
    assert "resuming the training in" in text
    assert made[:10] == list(range(10, 20))  # those of the missing steps; one more may have been read ahead


#: Runs `run.py`, and sends this process a signal when BM25 is about to be built.
STOPPED = """
import os, runpy, signal, sys
from irexp.index.bm25 import BM25Index

signal.signal(signal.SIGINT, signal.default_int_handler)

number, sys.argv = int(sys.argv[1]), sys.argv[2:]

def stops(*arguments):
    os.kill(os.getpid(), number)
    signal.pause()

BM25Index.build = stops
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_ends_with_the_status_of_the_signal(
    tmp_path: Path, collection: Path, number: signal.Signals, status: int
) -> None:
    """Its first job is stopped in a stage other than fit; no other job starts, and both summaries are written."""
    overrides = ["-m", "model=bm25", "stage=index", "seed=1,2", "dataset=local", f"dataset.path={collection}"]
    places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    command = [sys.executable, "-c", STOPPED, str(int(number)), str(ROOT / "run.py"), *overrides, *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    (job,) = json.loads((tmp_path / "sweep" / "summary.json").read_text())
    assert job["outcome"] == json.loads((tmp_path / "sweep" / "0" / "summary.json").read_text())["outcome"] == "stopped"
