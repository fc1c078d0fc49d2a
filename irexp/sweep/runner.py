"""Make the tasks of a graph, each as soon as its inputs exist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from irexp.sweep.graph import Task
from irexp.sweep.schedule import Schedule
from irexp.sweep.status import Status


class Result(NamedTuple):
    """How a task ended.

    Attributes:
        key: the task.
        seconds: how long it took.
        error: why it failed; None if it did not.
    """

    key: str
    seconds: float
    error: str | None = None


class Runner(Protocol):
    """Processes that make tasks.

    Attributes:
        is_early: whether a task may be handed over before what it needs is done, because the runner keeps the order.
        count: how many tasks run at a time; None if a cluster decides.
    """

    is_early: bool
    count: int | None

    @property
    def is_free(self) -> bool:
        """Whether it takes another task now."""

    def start(self, task: Task) -> None:
        """Begin a task, or hand it over."""

    def wait(self) -> list[Result]:
        """The tasks that have ended since; waits for one, though not for ever."""

    def drop(self, key: str) -> None:
        """Forget a task that was handed over and cannot begin, since another one failed."""

    def close(self) -> None:
        """End every process that still runs."""


def run_graph(
    tasks: Mapping[str, Task], runner: Runner, *, is_shown: bool = True, file: Path | None = None
) -> dict[str, str]:
    """Make all tasks; a failure takes with it only those that need the failed one.

    Args:
        tasks: by key; what a task needs stands before it.
        runner: what makes them; closed at the end, also after an error.
        is_shown: whether to draw a bar on a terminal.
        file: where the state is written at each change.

    Returns:
        The error of each task that failed or could not begin.
    """
    schedule = Schedule({key: task.needs for key, task in tasks.items()})
    errors: dict[str, str] = {}
    try:
        with Status(tasks, schedule, workers=runner.count, is_shown=is_shown, file=file) as status:
            while not schedule.is_over:
                for key in schedule.ready(early=runner.is_early):
                    if runner.is_free:
                        schedule.start(key)
                        runner.start(tasks[key])
                        status.show()
                for result in runner.wait():
                    if result.key not in schedule.running:
                        continue  # a cluster has removed it, since a task that it needs failed in the same moment
                    if result.error is None:
                        schedule.finish(result.key, result.seconds)
                    else:
                        errors[result.key] = result.error
                        for lost in schedule.fail(result.key):
                            errors[lost] = result.error
                            runner.drop(lost)
                    status.ended(result.key, result.error)
    finally:
        runner.close()
    return errors
