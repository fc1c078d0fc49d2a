"""The end of a sweep: its exit status, whatever happens to its table, and which jobs are its own."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import DictConfig

from irexp.stage import check
from irexp.stage.check import check_sweep
from irexp.stage.claim import Claims
from irexp.stage.recipe import Measures
from irexp.stage.sweep import EARLIER, MEASURED, RECORD, SweepReport, _swept, report_sweep
from irexp.types import UserError
from tests.chains import Compose, run, settings


@pytest.fixture
def config(compose: Compose, tmp_path: Path, collection: Path) -> DictConfig:
    """The configuration of a sweep, with the folder that Hydra gives it."""
    found = compose(*settings(tmp_path, collection, "model=bm25"))
    found.hydra = {"sweep": {"dir": str(tmp_path / "sweep")}}
    return found


def record(config: DictConfig, number: int, outcome: str, /, name: str | None = None, **more: Any) -> Path:
    """Write the record of a job as the job does; returns its path."""
    folder = Path(config.hydra.sweep.dir) / (name or str(number))
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "overrides": [f"seed={number}"],
        "outcome": outcome,
        "seconds": 1.0,
        "error": more.pop("error", None),
        **more,
    }
    (folder / RECORD).write_text(json.dumps(job))
    return folder / RECORD


def jobs_of(config: DictConfig) -> list[str]:
    """The overrides of each job in the sweep's own record."""
    jobs = json.loads((Path(config.hydra.sweep.dir) / RECORD).read_text())
    return [" ".join(job["overrides"]) for job in jobs]


@pytest.mark.parametrize(("outcome", "is_failed"), [("done", False), ("pruned", False), ("failed", True)])
def test_a_sweep_fails_if_one_of_its_jobs_did(config: DictConfig, outcome: str, is_failed: bool) -> None:
    """A pruned job has not failed; all are listed in their order."""
    for number in (10, 9):
        record(config, number, "done")
    record(config, 11, outcome, error="ValueError: broken" if is_failed else None)
    if is_failed:
        with pytest.raises(SystemExit, match="1"):
            SweepReport().on_multirun_end(config)
    else:
        SweepReport().on_multirun_end(config)
    assert jobs_of(config) == ["seed=9", "seed=10", "seed=11"]


def test_swept_keys_are_those_in_which_jobs_differ() -> None:
    """Labels name them; a collection is a column, and a key that only some jobs have differs, too."""
    jobs = [["model=bm25", "dataset=a", "+index.k1=1", "seed=1"], ["model=bm25", "dataset=b", "+index.k1=2", "seed=1"]]
    assert _swept(jobs) == {"index.k1"}
    assert _swept([*jobs, ["model=bm25", "dataset=b", "seed=1"]]) == {"index.k1"}


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_an_error_in_the_table_hides_no_job_and_fails_the_sweep(
    config: DictConfig, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Hydra would only warn of it: the jobs would not be listed, and the status would be 0."""
    record(config, 0, outcome, cells=[{"row": None}])
    with pytest.raises(SystemExit, match="1"):
        SweepReport().on_multirun_end(config)
    assert "no table of all jobs" in caplog.text and "KeyError" in caplog.text
    assert jobs_of(config) == ["seed=0"]


def test_jobs_of_an_earlier_sweep_in_the_same_folder_are_not_of_this_one(
    compose: Compose, config: DictConfig, tmp_path: Path, collection: Path
) -> None:
    """Neither its table nor its status counts them; their records are kept under another name."""

    def cells(*typed: str) -> list[dict[str, str | None]]:
        found = run(compose, settings(tmp_path, collection, "model=bm25", *typed), ["index", "search", "evaluate"])
        return [{"folder": str(found["evaluate"].path), "row": None, "column": None}]

    report, table = SweepReport(), Path(config.hydra.sweep.dir) / "table.md"
    report.on_multirun_start(config)
    record(config, 0, "done", cells=cells("index.b=0.1"))
    record(config, 1, "failed", cells=cells("index.b=0.2"), error="ValueError: broken")
    with pytest.raises(SystemExit, match="1"):
        report.on_multirun_end(config)
    assert "index.b=0.2" in table.read_text() and jobs_of(config) == ["seed=0", "seed=1"]
    report.on_multirun_start(config)
    before = record(config, 0, "done", cells=cells("index.b=0.3"))
    report.on_multirun_end(config)
    assert "index.b" not in table.read_text() and jobs_of(config) == ["seed=0"]
    assert "broken" in (before.parents[1] / "1" / EARLIER).read_text()


def test_jobs_are_in_the_order_of_their_numbers_whatever_their_folders_are_called(config: DictConfig) -> None:
    """The first one is the reference of the table's tests: `0-sbert` before `1-bm25`, which is the shorter name."""
    for number, name in enumerate(("0-sbert", "1-bm25", "2-a")):
        record(config, number, "done", name=name, number=number)
    SweepReport().on_multirun_end(config)
    assert jobs_of(config) == ["seed=0", "seed=1", "seed=2"]


def test_only_jobs_of_this_sweep_are_compared_with_claims(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An earlier sweep in the folder left two jobs, and a job without a record is of none; failures are recorded."""
    compared: list[Sequence[str]] = []

    def compare(jobs: Sequence[Measures], *_: object) -> None:
        compared.append([job.typed[0] for job in jobs])
        raise UserError("it does not meet its claims")

    def measured(number: int, value: str) -> None:
        content = {"artifacts": "artifacts", "measures": Measures(value, [value], [], [], [], True).to_dict()}
        (record(config, number, "done", number=number).parent / MEASURED).write_text(json.dumps(content))

    monkeypatch.setattr(check, "_compare", compare)
    monkeypatch.setattr(check, "read_claims", lambda name: Claims(()))
    folder = Path(config.hydra.sweep.dir)
    for number in (0, 1, 2):
        measured(number, "earlier")
    (folder / "2" / RECORD).unlink()
    SweepReport().on_multirun_start(config)
    measured(0, "now")
    record(config, 1, "done", number=1)
    check_sweep(folder)
    assert compared == [["now"]] and "Traceback" not in caplog.text
    assert [json.loads((folder / name / RECORD).read_text())["outcome"] for name in "01"] == ["failed", "done"]


def test_a_sweep_starts_without_the_results_of_an_earlier_search(config: DictConfig) -> None:
    """Its trials, plots and best command would stand beside the table of other jobs."""
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir()
    for name in ("search.json", "trials.csv", "best.txt", "history.png", "pareto_front.png", "table.md"):
        (folder / name).touch()
    SweepReport().on_multirun_start(config)
    assert [path.name for path in folder.iterdir()] == ["table.md"]


@pytest.mark.parametrize("ended", ["lost", "stopped", "running"])
def test_a_job_that_recorded_no_end_is_listed_as_what_became_of_it(
    config: DictConfig, ended: Literal["lost", "stopped", "running"], caplog: pytest.LogCaptureFixture
) -> None:
    """Its process was killed, or the sweep was stopped; on the further nodes, the first one still works on it."""
    paths = [record(config, number, outcome) for number, outcome in enumerate(("done", "running"))]
    with caplog.at_level(logging.INFO):
        assert not report_sweep(Path(config.hydra.sweep.dir), ended=ended)
    assert [json.loads(path.read_text())["outcome"] for path in paths] == ["done", ended]
    assert json.loads((Path(config.hydra.sweep.dir) / RECORD).read_text())[1]["outcome"] == ended
    assert ("its process ended without recording why" in caplog.text) == (ended == "lost")
    assert (f"1 of 2 jobs {ended}; the same command again" in caplog.text) == (ended != "running")


@pytest.mark.parametrize("function", ["write_record", "tabulate_sweep"])
def test_a_full_disk_hides_no_job_and_fails_the_sweep_without_a_traceback(
    config: DictConfig, function: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither records nor the table can be written; all jobs are done, and are listed."""
    record(config, 0, "done")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"irexp.stage.sweep.{function}", full)
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit, match="1"):
        SweepReport().on_multirun_end(config)
    assert "1 jobs in " in caplog.text and "No space left on device" in caplog.text
    assert "Traceback" not in caplog.text
