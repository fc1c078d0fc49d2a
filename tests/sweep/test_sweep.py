"""Sweeps as one graph against the same sweeps with Hydra's basic launcher, as commands on a dozen documents."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.reliability.jobs import ROOT, command, write_queries
from tests.reliability.kill import content

pytestmark = pytest.mark.slow

#: Two trained models, each searched by two engines.
SWEEP = (
    *("-m", "stage=[fit,encode,index,search,evaluate]", "seed=1,2", "index=faiss_flat,faiss_hnsw"),
    *("training.steps=4", "training.batch_size=4", "training.validate_every=2", "machine.resume_every=1"),
    *("training.validation_documents=null", "training.validation_queries=null"),
)

#: Three indexes, each with a run and its measures: nine artifacts that are made in a moment.
QUICK = ("-m", "model=bm25", "stage=[index,search,evaluate]", "index.k1=0.9,1.2,1.5")

#: Per seed a checkpoint and an encoding, and per engine an index, a run and measures.
KINDS = {"checkpoint": 2, "encoding": 2, "index": 4, "run": 4, "measures": 4}


def start(folder: Path, collection: Path, *more: str) -> subprocess.Popen[str]:
    """Start a command in a folder of its own; its log is added to the folder's."""
    folder.mkdir(exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        arguments = [sys.executable, str(ROOT / "run.py"), *command(collection, *more)]
        # shells let background jobs ignore SIGINT, and so would this one
        return subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log, text=True, preexec_fn=_heed_interrupts)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def finish(folder: Path, collection: Path, *more: str) -> str:
    """Run a command in a folder of its own; returns its log."""
    (folder / "log.txt").unlink(missing_ok=True)
    with start(folder, collection, *more) as job:
        job.wait()
    text = (folder / "log.txt").read_text()
    assert job.returncode == 0, text
    return text


def without_command(artifacts: Path) -> dict[str, object]:
    """Every file; of a manifest what depends neither on the execution nor on the launcher that was typed."""
    found = content(artifacts)
    for path in found:
        if path.endswith("manifest.json"):
            del found[path]["provenance"]["command"]
    return found


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection to train on."""
    return write_queries(tmp_path_factory.mktemp("collection") / "toys")


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory, toys: Path) -> Path:
    """The folder of the sweep with Hydra's basic launcher."""
    folder = tmp_path_factory.mktemp("basic")
    finish(folder, toys, *SWEEP)
    return folder


def test_each_artifact_is_made_once_and_is_that_of_the_basic_launcher(tmp_path: Path, toys: Path, basic: Path) -> None:
    """Names, bytes and records are equal, the jobs' measures too; both workers work; the same again makes nothing."""
    text = finish(tmp_path, toys, *SWEEP, "hydra/launcher=graph")
    assert without_command(tmp_path / "artifacts") == without_command(basic / "artifacts")
    made = re.findall(r"graph: (\w+) \S+ done in", text)
    assert len(made) == sum(KINDS.values()) == 16
    logs = [path.read_text() for path in sorted((tmp_path / "output").glob("worker-*.log"))]
    assert len(logs) == 2 and "".join(logs).count(": making ") == 16
    assert all(log.count(": making ") >= 3 for log in logs)
    for kind, number in KINDS.items():
        assert len(list((tmp_path / "artifacts" / kind).glob("*/manifest.json"))) == number
    jobs, expected = (json.loads((each / "output" / "summary.json").read_text()) for each in (tmp_path, basic))
    assert [job["outcome"] for job in jobs] == ["done"] * 4
    for job, other in zip(jobs, expected, strict=True):
        assert [each["measures"] for each in job["stages"]] == [each["measures"] for each in other["stages"]]
    again = finish(tmp_path, toys, *SWEEP, "hydra/launcher=graph")
    assert "graph:" not in again and again.count("evaluate: already done") == 4


def test_jobs_that_joblib_runs_side_by_side_share_what_they_need(tmp_path: Path, toys: Path, basic: Path) -> None:
    """Hydra's own launcher for processes: one job waits while another makes what both need; nothing is made twice."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    finish(tmp_path, toys, *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    ours, theirs = (content(folder / "artifacts") for folder in (tmp_path, basic))
    assert ours.keys() == theirs.keys()  # the manifests say which job was first
    assert all(ours[path] == theirs[path] for path in ours if not path.endswith("manifest.json"))
    jobs = json.loads((tmp_path / "output" / "summary.json").read_text())
    statuses = [stage["status"] for job in jobs for stage in job["stages"]]
    assert statuses.count("made") == sum(KINDS.values()) and len(statuses) == 4 * len(KINDS)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, 1)])
def test_jobs_that_joblib_kills_are_listed(tmp_path: Path, toys: Path, number: int, status: int) -> None:
    """The command is stopped, or the process of a job is killed: joblib kills the other jobs, which record nothing."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    endless = ("-m", "stage=fit", "seed=1,2", "training.steps=9999", "training.batch_size=4")
    records = [tmp_path / "output" / name / "summary.json" for name in "01"]
    with start(tmp_path, toys, *endless, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2") as job:
        while not all(record.exists() for record in records):
            assert job.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.05)
        workers = [child for child in psutil.Process(job.pid).children() if "popen_loky" in " ".join(child.cmdline())]
        os.kill(workers[0].pid if number == signal.SIGKILL else job.pid, number)
        job.wait()
    text = (tmp_path / "log.txt").read_text()
    assert job.returncode == status, text
    ended = "lost" if number == signal.SIGKILL else "stopped"
    assert f"2 of 2 jobs {ended}; the same command again runs only what is missing" in text
    jobs = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert [each["outcome"] for each in jobs] == [ended] * 2


def test_a_batch_of_jobs_is_a_graph_of_its_own(tmp_path: Path, toys: Path) -> None:
    """With max_batch_size the second graph makes what the first one did not."""
    overrides = ("-m", "model=bm25", "stage=[index,search]", "search.depth=1,2,3", "hydra/launcher=graph")
    text = finish(tmp_path, toys, *overrides, "hydra.sweeper.max_batch_size=2")
    assert re.findall(r"graph: (\d) artifacts to make for (\d) jobs", text) == [("3", "2"), ("1", "1")]
    assert len(json.loads((tmp_path / "output" / "summary.json").read_text())) == 3


def test_a_failed_step_fails_only_the_jobs_that_need_it(tmp_path: Path, toys: Path) -> None:
    """An engine refuses its settings: the job has that error and no step of it runs twice; the other job is done."""
    overrides = ("-m", "training=none", "stage=[fit,index,search]", "index=faiss_ivf", "index.lists=2,4096")
    with start(tmp_path, toys, *overrides, "index.search.probes=1", "hydra/launcher=graph") as job:
        job.wait()
    text = (tmp_path / "log.txt").read_text()
    assert job.returncode == 1, text
    done, failed = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert (done["outcome"], failed["outcome"]) == ("done", "failed")
    (line,) = re.findall(r"graph: index \S+ failed: (.*?); ", text)
    assert failed["error"].startswith(line)
    assert "Traceback" not in text and "index: making" not in text


def test_no_process_outlives_a_killed_sweep_and_the_same_command_makes_the_rest(tmp_path: Path, toys: Path) -> None:
    """Killed in two ways, the second time after more artifacts; what is missing is then made, with the same bytes."""
    finish(tmp_path / "basic", toys, *QUICK)
    folder = tmp_path / "graph"
    for number, wanted in ((signal.SIGKILL, 1), (signal.SIGTERM, 4)):
        with start(folder, toys, *QUICK, "hydra/launcher=graph") as job:
            workers = wait_for(folder, job, artifacts=wanted)
            job.send_signal(number)
            job.wait()
        assert job.returncode == (-number if number == signal.SIGKILL else 128 + number)
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive
        made = len(list(artifacts_of(folder)))
        assert wanted <= made < 9
    assert (folder / "log.txt").read_text().count("stopped; the same command makes only what is missing") == 1
    text = finish(folder, toys, *QUICK, "hydra/launcher=graph")
    assert f"graph: {9 - made} artifacts to make" in text
    assert without_command(folder / "artifacts") == without_command(tmp_path / "basic" / "artifacts")


def test_a_killed_worker_loses_only_its_step(tmp_path: Path, toys: Path) -> None:
    """The jobs that need the step fail, saying how it ended; another worker is started, and the others are done."""
    with start(tmp_path, toys, *QUICK, "hydra/launcher=graph") as job:
        log = tmp_path / "output" / "worker-0.log"
        while not log.exists() or "index: making" not in log.read_text():
            assert job.poll() is None
            time.sleep(0.01)
        os.kill(worker_of(job, log).pid, signal.SIGKILL)
        job.wait()
    text = (tmp_path / "log.txt").read_text()
    assert job.returncode == 1, text
    jobs = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert sorted(job["outcome"] for job in jobs) == ["done", "done", "failed"]
    errors = {job["error"] for job in jobs if job["error"]}
    assert len(errors) == 1 and "the worker was ended by SIGKILL; its log is " in errors.pop()


def artifacts_of(folder: Path) -> Iterator[Path]:
    """The complete artifacts below a folder."""
    return (folder / "artifacts").glob("*/[!.]*/manifest.json")


def wait_for(folder: Path, job: subprocess.Popen[str], *, artifacts: int) -> list[psutil.Process]:
    """Wait until so many artifacts exist; returns the processes that the command has started."""
    while len(list(artifacts_of(folder))) < artifacts:
        assert job.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.01)
    found: list[psutil.Process] = psutil.Process(job.pid).children(recursive=True)
    assert len(found) >= 2
    return found


def worker_of(job: subprocess.Popen[str], log: Path) -> psutil.Process:
    """The process that writes to a worker's log."""
    for process in psutil.Process(job.pid).children():
        if os.path.realpath(f"/proc/{process.pid}/fd/1") == str(log.resolve()):
            return process
    raise AssertionError(f"no process writes to {log}")


def test_a_sweep_over_collections_has_a_column_each_and_a_smaller_one_after_it_fewer(
    tmp_path: Path, toys: Path
) -> None:
    """One row in one table; in the same folder the second sweep, of one collection, is a table of that alone."""
    other = write_queries(tmp_path / "other")
    (other / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\n")
    overrides = ("-m", "model=bm25", "stage=[index,search,evaluate]")
    finish(tmp_path, Path(f"{toys},{other}"), *overrides)
    table = (tmp_path / "output" / "table.md").read_text().splitlines()
    assert [cell.strip().split()[0] for cell in table[0].split("|")[2:-1]] == ["toys"] * 3 + ["other"] * 3
    assert table[2].startswith("| bm25 ") and "–" not in table[2] and not table[3].startswith("|")
    finish(tmp_path, toys, *overrides)
    assert "other" not in (tmp_path / "output" / "table.md").read_text()
    assert len(json.loads((tmp_path / "output" / "summary.json").read_text())) == 1


def test_a_search_runs_its_rounds_as_graphs_and_its_page_shows_it(tmp_path: Path, toys: Path) -> None:
    """Optuna gets the measures of jobs whose artifacts the graph made; the page has the trials and the best command."""
    search = ("hydra/sweeper=optuna", "hydra.sweeper.trials=2", "hydra.sweeper.workers=2", "hydra/launcher=graph")
    stages = ("stage=[index,search,evaluate,report]", "stage.report.html=true", "index.k1=interval(0.5,2)")
    text = finish(tmp_path, toys, "-m", "model=bm25", *search, *stages)
    assert "graph: 6 artifacts to make for 2 jobs" in text
    found = json.loads((tmp_path / "output" / "search.json").read_text())
    jobs = json.loads((tmp_path / "output" / "summary.json").read_text())
    measured = [job["stages"][2]["measures"]["nDCG@10"] for job in jobs]
    assert [trial["values"] for trial in found["trials"]] == [[value] for value in measured]
    page = (tmp_path / "output" / "report.html").read_text()
    assert "Search for settings" in page and "All 2 trials" in page and "Best: " in page
