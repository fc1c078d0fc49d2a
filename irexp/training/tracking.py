"""Experiment trackers: one per job, for the curves of its training, its configuration, its measures and its table.

Secrets stay out: wandb reads its key from its own environment variable or login, never from the configuration.
"""

from __future__ import annotations

import csv
import io
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

if TYPE_CHECKING:
    from irexp.evaluation.table import Table


def csv_logger(save_dir: Path, *, group: str | None, name: str) -> Logger:
    """Curves as metrics.csv in the job's output folder."""
    return CSVLogger(save_dir, name=None, version="")


def tensorboard_logger(save_dir: Path, *, group: str | None, name: str) -> Logger:
    """Curves for TensorBoard in the job's output folder."""
    return TensorBoardLogger(save_dir, name=None, version="")


def wandb_logger(
    save_dir: Path,
    *,
    group: str | None,
    name: str,
    project: str = "irexp",
    mode: Literal["offline", "online", "disabled"] = "offline",
    entity: str | None = None,
    tags: list[str] | None = None,
) -> Logger:
    """Weights & Biases.

    Args:
        save_dir: the job's output folder.
        group: the sweep that the job belongs to.
        name: what the job's run is called; its id is made anew, so that runs never merge.
        project: the project on the server.
        mode: offline needs no account; `wandb sync` sends the files later.
        entity: the user or team; None for the account's own.
        tags: words to find the run by.
    """
    import wandb

    wandb.finish()  # a job that died in this process must not lend its run to this one
    return WandbLogger(
        name=name,
        save_dir=str(save_dir),
        project=project,
        group=group,
        entity=entity,
        tags=tags or [],
        mode=mode,
        id=uuid.uuid4().hex[:8],
        settings=wandb.Settings(silent=mode != "online"),
    )


def log_outcome(logger: Logger, *, measures: dict[str, float], tables: dict[str, Table]) -> None:
    """Log the measures and, where there is a place, the tables."""
    if measures:
        logger.log_metrics(measures)
    if isinstance(logger, WandbLogger):
        for name, table in tables.items():
            header, *rows = csv.reader(io.StringIO(table.to_csv()))
            logger.log_table(f"table/{name}", columns=header, data=rows)


def finish(logger: Logger) -> None:
    """Close the tracker, so that the next job of this process gets its own run."""
    logger.finalize("success")
    if isinstance(logger, WandbLogger):
        import wandb

        wandb.finish()
