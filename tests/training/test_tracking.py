"""Trackers: no account needed, one run per job, with configuration, measures and table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from lightning.pytorch.loggers import WandbLogger

from irexp.evaluation.measures import Measured
from irexp.evaluation.table import Result, Table, make_table
from irexp.training.tracking import csv_logger, finish, log_outcome, tensorboard_logger, wandb_logger


def table() -> Table:
    """One row, one measure, two queries."""
    measured = Measured({"RR@10": {"q1": 1.0, "q2": 0.5}}, {"RR@10": 0.75}, 0, 0)
    return make_table([Result("mine", measured, {"run": "run/mine-1"})], ["RR@10"])


CONFIGURATION = {"seed": 1, "artifact": {"run": "run/mine-1"}}
MEASURES = {"test/RR@10": 0.75}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_needs_no_account_and_never_merges_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs in one process and group give two offline runs, each with its table."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for patience in ("WANDB_X_SERVICE_WAIT", "WANDB_INIT_TIMEOUT"):
        monkeypatch.setenv(patience, "3600")  # seconds, so that a busy machine does not fail the test
    ids = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        logger = wandb_logger(folder, group="sweep", name="mine.toys")
        assert isinstance(logger, WandbLogger)
        logger.log_metrics({"train/loss": 0.5}, step=1)
        logger.log_hyperparams(CONFIGURATION)
        log_outcome(logger, measures=MEASURES, tables={"toys": table()})
        ids.append(logger.experiment.id)
        assert logger.experiment.group == "sweep"
        assert logger.experiment.config["artifact"] == {"run": "run/mine-1"}
        finish(logger)
        assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1
        assert len(list(folder.rglob("*.table.json"))) == 1
    assert len(set(ids)) == 2


def test_csv_and_tensorboard_write_into_the_jobs_folder(tmp_path: Path) -> None:
    """Curves, measures and the configuration are written as csv, and curves as an event file."""
    logger = csv_logger(tmp_path, group=None, name="mine")
    logger.log_metrics({"train/loss": 0.5}, step=1)
    logger.log_hyperparams(CONFIGURATION)
    log_outcome(logger, measures=MEASURES, tables={})
    finish(logger)
    with (tmp_path / "metrics.csv").open(encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert [row["train/loss"] for row in rows if row["train/loss"]] == ["0.5"]
    assert [row["test/RR@10"] for row in rows if row["test/RR@10"]] == ["0.75"]
    assert "seed: 1" in (tmp_path / "hparams.yaml").read_text(encoding="utf8")
    board = tensorboard_logger(tmp_path / "board", group=None, name="mine")
    board.log_metrics({"train/loss": 0.5}, step=1)
    finish(board)
    assert len(list((tmp_path / "board").glob("events.out.*"))) == 1
