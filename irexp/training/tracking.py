"""Experiment trackers, one per job, as conf/logger chooses them; `irexp.training.outcome` writes the results to them.

The configuration holds no secrets: wandb and MLflow read theirs from their own environment variables or login.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from irexp.artifact.stages import KINDS
from irexp.config.installation import install_command
from irexp.training.mlflow_tracker import MlflowTracker, check_address, opening_store
from irexp.training.tracked_job import TrackedJob
from irexp.types import UserError

#: The most characters that wandb allows in a tag.
_LONGEST_TAG = 64


def csv_logger(save_dir: Path, job: TrackedJob) -> Logger:
    """Curves and measures as metrics.csv in the job's output folder, where an earlier command's keep another name."""
    if (written := save_dir / "metrics.csv").exists():
        free = next(number for number in count(1) if not (save_dir / f"metrics.earlier-{number}.csv").exists())
        written.rename(save_dir / f"metrics.earlier-{free}.csv")
    warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty")  # Hydra's files are there
    return CSVLogger(save_dir, name=None, version="")


def tensorboard_logger(save_dir: Path, job: TrackedJob) -> Logger:
    """Curves, hyperparameters, measures and tables for TensorBoard in the job's output folder.

    Raises:
        UserError: if its package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(f"logger=tensorboard needs the package tensorboard: {install_command('tensorboard')}")
    return TensorBoardLogger(save_dir, name=None, version="", default_hp_metric=False)


def wandb_logger(
    save_dir: Path,
    job: TrackedJob,
    *,
    project: str = "irexp",
    mode: Literal["offline", "online", "disabled"] = "offline",
    entity: str | None = None,
    tags: list[str] | None = None,
    upload: list[str] | None = None,
) -> Logger:
    """Weights & Biases. In a wandb sweep the agent decides the run's id, else the job does.

    Args:
        save_dir: the job's output folder.
        job: how the job is shown.
        project: the project on the server.
        mode: offline needs no account; `wandb sync` uploads the files later.
        entity: the user or team; None for the account's default.
        tags: tags of the run, of 1 to 64 characters each.
        upload: the kinds of artifacts whose files are uploaded; of the others only the manifest is.

    Raises:
        UserError: if a tag has another length, or `upload` names something that is not a kind of artifact.
    """
    for tag in tags or []:
        if not 1 <= len(tag) <= _LONGEST_TAG:
            raise UserError(f"logger.tags: {tag!r} has {len(tag)} characters; wandb allows 1 to {_LONGEST_TAG}")
    for kind in upload or []:
        if kind not in KINDS:
            raise UserError(f"logger.upload: {kind!r} is not a kind of artifact; the kinds are {', '.join(KINDS)}")
    import wandb

    wandb.finish()  # end the run of an earlier job that failed in this process
    return WandbTracker(save_dir, job, project, mode, entity, tags or [], frozenset(upload or []))


class WandbTracker(WandbLogger):
    """Lightning's logger for wandb, which also knows which kinds of artifacts it uploads."""

    def __init__(
        self,
        save_dir: Path,
        job: TrackedJob,
        project: str,
        mode: Literal["offline", "online", "disabled"],
        entity: str | None,
        tags: list[str],
        upload: frozenset[str],
    ) -> None:
        """The parameters are those of `wandb_logger`."""
        import wandb

        super().__init__(
            name=job.name,
            save_dir=str(save_dir),
            project=project,
            group=job.group,
            job_type=job.stage,
            entity=entity,
            tags=tags,
            mode=mode,
            id=job.id if job.group else os.environ.get("WANDB_RUN_ID", job.id),  # an agent's is of one job
            settings=wandb.Settings(silent=mode != "online"),
        )
        self.upload = upload


def mlflow_logger(
    save_dir: Path,
    job: TrackedJob,
    *,
    experiment: str = "irexp",
    tracking_uri: str = "sqlite:///mlflow.db",
    tags: dict[str, str] | None = None,
) -> Logger:
    """MLflow: a database file, or a server. The same command continues its run.

    Args:
        save_dir: unused, since the runs of all jobs are in one store.
        job: how the job is shown; its id, stage and sweep are tags of the run.
        experiment: MLflow's name for a group of runs.
        tracking_uri: where the store is, without a password.
        tags: further tags of the run.

    Raises:
        UserError: if its packages are not installed, the address holds a password, or the store cannot be opened.
    """
    if any(importlib.util.find_spec(name) is None for name in ("mlflow", "sqlalchemy", "alembic")):
        raise UserError(f"logger=mlflow needs the package mlflow-skinny: {install_command('mlflow')}")
    check_address(tracking_uri)
    with opening_store(tracking_uri, experiment) as client:
        known = client.get_experiment_by_name(experiment)
        if known and known.lifecycle_stage == "deleted":
            raise UserError(f"logger.experiment={experiment} was deleted in MLflow: restore it, or choose another name")
        place = known.experiment_id if known else client.create_experiment(experiment)
    runs = client.search_runs([place], f"tags.`irexp.job` = '{job.id}'", max_results=1)
    own = {"irexp.job": job.id, "irexp.stage": job.stage, **({"irexp.sweep": job.group} if job.group else {})}
    tags = {**(tags or {}), **own}
    if runs:
        client.update_run(runs[0].info.run_id, status="RUNNING", name=job.name)
        for name, value in tags.items():
            client.set_tag(runs[0].info.run_id, name, value)
    return MlflowTracker(experiment, job.name, tracking_uri, tags, runs[0].info.run_id if runs else None)


class _PassingOn(Logger):
    """A logger that passes metrics on to the job's own, which have names."""

    @property
    def name(self) -> None:
        """Required by Lightning."""

    @property
    def version(self) -> None:
        """Required by Lightning."""


class TitledLogger(_PassingOn):
    """Writes the curves of one of a job's several trainings under a name of their own: `train/<title>/loss`."""

    def __init__(self, loggers: Sequence[Logger], title: str) -> None:
        """The loggers are those of the job."""
        super().__init__()
        self._loggers, self._title = loggers, title

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics under the title."""
        named = {titled(name, self._title): value for name, value in metrics.items()}
        for logger in self._loggers:
            logger.log_metrics(named, step)

    def log_hyperparams(self, params: Any, *arguments: Any, **settings: Any) -> None:
        """Ignored, since the job logs its whole configuration."""

    def save(self) -> None:
        """Write what the job's loggers hold in memory."""
        for logger in self._loggers:
            logger.save()


def titled(name: str, title: str | None) -> str:
    """The name of a metric with a title after its first part.

    >>> titled("test/nDCG@10", "sbert/DL 2019")
    'test/sbert/DL 2019/nDCG@10'
    """
    if title is None:
        return name
    head, _, rest = name.partition("/")
    return f"{head}/{title}/{rest}" if rest else f"{title}/{name}"


class _Relay(_PassingOn):
    """The logger of a child process, which sends its metrics to the parent."""

    def __init__(self, sender: Connection) -> None:
        super().__init__()
        self._sender = sender

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the metrics to the parent process."""
        self._sender.send((dict(metrics), step))

    def log_hyperparams(self, params: Any, *arguments: Any, **settings: Any) -> None:
        """Ignored, since the job logs its whole configuration."""


@contextmanager
def relayed(tracker: Logger | Sequence[Logger]) -> Iterator[Logger]:
    """A logger for child processes, whose metrics this process writes to one or several trackers.

    With a tracker of its own each child would start over: csv with an empty file, wandb with another run.
    """
    trackers = [tracker] if isinstance(tracker, Logger) else tracker
    receiver, sender = get_context("spawn").Pipe(duplex=False)

    def receive() -> None:
        with suppress(EOFError):  # the last sender is closed, or was killed
            while True:
                metrics, step = receiver.recv()
                for each in trackers:
                    each.log_metrics(metrics, step)

    thread = Thread(target=receive, daemon=True)
    thread.start()
    try:
        yield _Relay(sender)
    finally:
        sender.close()
        thread.join()
        receiver.close()
