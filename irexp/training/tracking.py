"""Experiment trackers, one per job, as conf/logger chooses them; `irexp.training.outcome` writes the results to them.

The configuration holds no secrets: wandb reads its key from its own environment variable or login.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from irexp.artifact.disk import hold_lock
from irexp.artifact.stages import KINDS
from irexp.config.installation import install_command
from irexp.training.tracked_job import TrackedJob
from irexp.types import UserError

#: The most characters that wandb allows in a tag.
_LONGEST_TAG = 64


def csv_logger(save_dir: Path, job: TrackedJob) -> Logger:
    """Curves and measures as metrics.csv in the job's output folder."""
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
            id=os.environ.get("WANDB_RUN_ID", job.id),
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
        tracking_uri: where the store is.
        tags: further tags of the run.

    Raises:
        UserError: if its packages are not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("mlflow", "sqlalchemy", "alembic")):
        raise UserError(f"logger=mlflow needs the package mlflow-skinny: {install_command('mlflow')}")
    from mlflow.tracking import MlflowClient

    with _making_store(tracking_uri):
        client = MlflowClient(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else client.create_experiment(experiment)
    runs = client.search_runs([place], f"tags.`irexp.job` = '{job.id}'", max_results=1)
    own = {"irexp.job": job.id, "irexp.stage": job.stage, **({"irexp.sweep": job.group} if job.group else {})}
    tags = {**(tags or {}), **own}
    if runs:
        client.update_run(runs[0].info.run_id, status="RUNNING", name=job.name)
        for name, value in tags.items():
            client.set_tag(runs[0].info.run_id, name, value)
    return MlflowTracker(experiment, job.name, tracking_uri, tags, runs[0].info.run_id if runs else None)


@contextmanager
def _making_store(tracking_uri: str) -> Iterator[None]:
    """In the block no other process of this machine makes the same store; two that make its tables at once may fail."""
    digest = hashlib.sha256(f"{Path.cwd()} {tracking_uri}".encode()).hexdigest()[:16]
    with hold_lock(Path(tempfile.gettempdir()) / f"irexp-mlflow-{digest}.lock", f"the store {tracking_uri}"):
        yield


class MlflowTracker(MLFlowLogger):
    """Lightning's logger for MLflow, with names that MLflow allows: `test/nDCG_10` for `test/nDCG@10`."""

    def __init__(
        self, experiment: str, name: str, tracking_uri: str, tags: dict[str, str], resumed: str | None
    ) -> None:
        """A new run, or the one with the id `resumed`."""
        super().__init__(experiment, run_name=name, tracking_uri=tracking_uri, tags=tags, run_id=resumed)
        self._is_resumed = resumed is not None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, with `_` for each character that MLflow does not allow in their names."""
        super().log_metrics({allowed_by_mlflow(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration; not again when a run is resumed, since MLflow's parameters cannot change."""
        if not self._is_resumed:
            super().log_hyperparams(_renamed(params))


def allowed_by_mlflow(name: str) -> str:
    """A name of a metric, parameter or file with `_` for each character that MLflow does not allow.

    >>> allowed_by_mlflow("test/ours (large)/nDCG@10")
    'test/ours _large_/nDCG_10'
    """
    return re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)


def _renamed(params: Any) -> Any:
    """The same nested values under keys that MLflow allows, such as those of `rows`, which a user names."""
    if not isinstance(params, dict):
        return params
    return {allowed_by_mlflow(str(key)): _renamed(value) for key, value in params.items()}


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
