"""Sweeps that are tracked, as commands on a dozen documents; what wandb has written is read back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.reliability.jobs import ROOT, command, write_queries
from tests.training.wandb_file import runs_of

pytestmark = pytest.mark.slow

#: A training of a moment.
SHORT = (
    *("training.batch_size=4", "training.validate_every=null", "machine.resume_every=1"),
    *("training.validation_documents=null", "training.validation_queries=null"),
)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection to train on."""
    return write_queries(tmp_path_factory.mktemp("collection") / "toys")


def start(folder: Path, arguments: list[str], more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command in a folder of its own, without an account of wandb; its log is added to the folder's."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        own[name] = str(folder / "wandb_own")
    own |= {"WANDB_X_SERVICE_WAIT": "3600", "WANDB_INIT_TIMEOUT": "3600", **(more or {})}
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log, text=True, env=own)


def run(folder: Path, *arguments: str) -> int:
    """Run `run.py` to its end; returns the exit status."""
    with start(folder, [sys.executable, str(ROOT / "run.py"), *arguments]) as job:
        return job.wait()


def test_wandb_and_csv_show_every_job_of_a_sweep(tmp_path: Path, toys: Path) -> None:
    """One training for two jobs, of which one fails in its index; two jobs whose plan has a fault; the table of all."""
    sweep = command(
        toys,
        *("-m", "stage=[fit,encode,index,search,evaluate]", "training.steps=20", *SHORT, "index=faiss_ivf"),
        *("index.lists=2,4096", "search.exclude_path=null,nowhere.txt", "index.search.probes=1"),
        *("logger=csv_and_wandb", "logger.wandb.tags=[mine]", "hydra/launcher=graph"),
    )
    assert run(tmp_path, *sweep) == 1, (tmp_path / "log.txt").read_text()
    runs = runs_of(tmp_path)
    assert {(found["run"].run_group, *found["run"].tags) for found in runs} == {("output", "mine")}
    shown = {(found["run"].job_type, found["run"].display_name): found for found in runs}
    jobs = [
        f"index.lists={lists} search.exclude_path={path}" for lists in (2, 4096) for path in ("null", "nowhere.txt")
    ]
    statuses = {("evaluate", job): int(job != jobs[0]) for job in jobs}
    assert {name: found["exit_code"] for name, found in shown.items()} == statuses | {
        ("fit", "search.exclude_path=null"): 0,
        ("table", "table"): 0,
    }
    assert len({found["run"].run_id for found in runs}) == len(runs) == 6
    assert "test/nDCG@10" in shown["evaluate", jobs[0]]["summary"]
    assert any("train/loss" in row for row in shown["fit", "search.exclude_path=null"]["history"])
    (table,) = tmp_path.glob("output/wandb/offline-run-*/files/media/table/table/results*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 1
    errors = [shown["evaluate", job]["summary"]["error"] for job in jobs]
    assert errors[0] is None and "nowhere.txt" in errors[1] and "4096" in errors[2] and "nowhere.txt" in errors[3]
    recorded = json.loads((tmp_path / "output" / "summary.json").read_text())
    of_csv = [json.loads((tmp_path / "output" / f"{number}" / "outcome.json").read_text()) for number in range(4)]
    assert errors == [job["error"] for job in recorded] == [job["error"] for job in of_csv]
    assert (tmp_path / "output" / "progress.txt").read_text().splitlines()[2] == "ended"


def test_the_readmes_wandb_sweep_runs_as_its_agent_starts_it(tmp_path: Path, toys: Path) -> None:
    """With the agent's arguments and run id; its metric is there, and a failure is known by the exit status, too."""
    text = (ROOT / "README.md").read_text(encoding="utf8")
    (example,) = re.findall(r"```yaml\n(program: run.py\n.*?)```", text, re.DOTALL)
    sweep = yaml.safe_load(example)
    drawn = [f"{name}=0.00001" for name in sweep["parameters"]]
    parts = {"${env}": ["/usr/bin/env"], "${program}": [str(ROOT / "run.py")], "${args_no_hyphens}": drawn}
    typed = [one for part in sweep["command"] for one in parts.get(part, [part])]
    assert typed[1] == "python" and typed.count("logger.mode=online") == 1
    typed[1], typed[typed.index("logger.mode=online")] = sys.executable, "logger.mode=offline"
    short = ("training.steps=2", "training.batch_size=4", "training.validate_every=1")
    for identity, path in (("works", toys), ("fails", tmp_path / "nowhere")):
        own = {"WANDB_RUN_ID": identity, "WANDB_SWEEP_ID": "swept"}
        with start(tmp_path, [*typed, *command(path, *short, f"hydra.run.dir={identity}")], own) as job:
            assert job.wait() == int(identity == "fails"), (tmp_path / "log.txt").read_text()
    works, fails = runs_of(tmp_path)
    assert [(one["run"].run_id, one["exit_code"]) for one in (works, fails)] == [("works", 0), ("fails", 1)]
    assert sweep["metric"]["name"] in works["summary"] and "nowhere" in fails["summary"]["error"]


def test_a_killed_command_continues_its_run(tmp_path: Path, toys: Path) -> None:
    """The repeated one has the same id, and its steps begin where the first one was killed."""
    arguments = command(toys, "stage=fit", "training.steps=100", *SHORT, "logger=wandb", "machine.resume_every=5")
    with start(tmp_path, [sys.executable, str(ROOT / "run.py"), *arguments]) as job:
        while not list(tmp_path.glob("artifacts/checkpoint/.partial-*/.training/last.ckpt")):
            assert job.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.05)
        job.send_signal(signal.SIGKILL)
    assert run(tmp_path, *arguments) == 0, (tmp_path / "log.txt").read_text()
    files = [path.name for path in tmp_path.rglob("wandb/offline-run-*/*.wandb")]  # which are named after the run
    assert len(files) == 2 and len(set(files)) == 1
    _, second = runs_of(tmp_path, killed=1)
    steps = [row["trainer/global_step"] for row in second["history"] if "train/loss" in row]
    assert steps == sorted(steps) and steps[0] > 5 and steps[-1] >= 89
