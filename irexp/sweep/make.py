"""Make one artifact of a frozen plan, in a worker of this machine or a job of a cluster; nothing is composed again."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.utils import env_override

from irexp.artifact.git import own_state
from irexp.artifact.store import Store
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.pipeline.machine import making_share
from irexp.stage.execute import execute
from irexp.stage.track import tracked
from irexp.stage.track_name import describe_step
from irexp.sweep.graph import Task
from irexp.types import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the tasks of a sweep are made.

    Attributes:
        output: the sweep's folder, for logs.
        directory: that of the command, which relative paths begin in.
        command: the program and its arguments, for the record of each artifact.
        threads: the threads of each process if `machine.threads` is not set; None for the default of that.
        group: what trackers call the sweep.
    """

    output: Path
    command: tuple[str, ...]
    directory: Path = field(default_factory=Path.cwd)
    threads: int | None = None
    group: str | None = None


def make(task: Task, place: Place) -> float:
    """Make an artifact whose inputs exist; returns the seconds, 0 if it exists already.

    The tracker of a training writes to a folder of its own in the sweep's, since several jobs may share the training.
    """
    register_resolvers()
    register_schema()
    sys.argv = list(place.command)
    plan = task.plan
    assert task.step.stage is not None
    config = plan.experiment.config  # this process has its own copy; the values, which are recorded, are separate
    if config.machine.threads is None:
        config.machine.threads = place.threads
    if (code := own_state()) is not None:
        code.save(place.output)  # the folder that the manifest names
    store = Store(plan.experiment.root)
    described = describe_step(task.step, task.swept, place.group)
    trackers = tracked(plan, store, place.output / task.step.name, described)
    with (
        env_override(dict(task.environment)),
        making_share(task.share),
        trackers if task.step.stage.logged else nullcontext() as tracker,
    ):
        logger_of = tracker.loggers_of if tracker else lambda step: None
        ((step, outcome, result),) = execute(plan, store, place.output, logger_of=logger_of)
        if tracker:
            tracker.record(step, outcome, result)
    return outcome.seconds


def attempt(task: Task, place: Place) -> tuple[float, str | None]:
    """The seconds of `make`, and its error in words, since not every exception can be sent to another process."""
    try:
        return make(task, place), None
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        log.error("%s", message if isinstance(error, UserError) else traceback.format_exc())
        return 0.0, message


def set_up_logging() -> None:
    """Log to stderr, in the format of a job's log."""
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
