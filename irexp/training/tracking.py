"""Experiment trackers: one per job, for its training curves, configuration, measures and table.

The configuration holds no secrets: wandb reads its key from its own environment variable or login.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from irexp.config.installation import install_command
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.evaluation.table import Table


def csv_logger(save_dir: Path, *, group: str | None, name: str) -> Logger:
    """Curves as metrics.csv in the job's output folder."""
    return CSVLogger(save_dir, name=None, version="")


def tensorboard_logger(save_dir: Path, *, group: str | None, name: str) -> Logger:
    """Curves for TensorBoard in the job's output folder.

    Raises:
        UserError: if its package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(f"logger=tensorboard needs the package tensorboard: {install_command('tensorboard')}")
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
        name: the name of the run; its id is random, so that runs never merge.
        project: the project on the server.
        mode: offline needs no account; `wandb sync` uploads the files later.
        entity: the user or team; None for the account's default.
        tags: tags of the run.
    """
    import wandb

    wandb.finish()  # end the run of an earlier job that failed in this process
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


class _Relay(Logger):
    """The logger of a child process, which sends its metrics to the parent."""

    def __init__(self, sender: Connection) -> None:
        super().__init__()
        self._sender = sender

    @property
    def name(self) -> None:
        """Required by Lightning; the parent's tracker has its own."""

    @property
    def version(self) -> None:
        """Required by Lightning; the parent's tracker has its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the metrics to the parent process."""
        self._sender.send((dict(metrics), step))

    def log_hyperparams(self, params: Any, *arguments: Any, **settings: Any) -> None:
        """Ignored, since the job logs its whole configuration."""


@contextmanager
def relayed(tracker: Logger) -> Iterator[Logger]:
    """A logger for child processes, whose metrics this process writes to the tracker.

    With a tracker of its own each child would start over: csv with an empty file, wandb with another run.
    """
    receiver, sender = get_context("spawn").Pipe(duplex=False)

    def receive() -> None:
        with suppress(EOFError):  # the last sender is closed, or was killed
            while True:
                metrics, step = receiver.recv()
                tracker.log_metrics(metrics, step)

    thread = Thread(target=receive, daemon=True)
    thread.start()
    try:
        yield _Relay(sender)
    finally:
        sender.close()
        thread.join()
        receiver.close()


def log_outcome(logger: Logger, *, measures: dict[str, float], tables: dict[str, Table]) -> None:
    """Log the measures, and in wandb also the tables."""
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
