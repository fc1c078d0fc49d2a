"""One line about a whole graph: a bar on a terminal, otherwise a line in the log per task."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from statistics import mean
from types import TracebackType
from typing import Never, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from irexp.progress import is_terminal
from irexp.sweep.graph import Task
from irexp.sweep.schedule import Schedule

log = logging.getLogger(__name__)

#: Running tasks that are named; the others are counted.
_NAMED = 3


class Status:
    """What is done, running, waiting and failed, and about how long the rest takes."""

    def __init__(
        self, tasks: Mapping[str, Task], schedule: Schedule, *, workers: int | None, is_shown: bool = True
    ) -> None:
        """Nothing is shown before the context is entered.

        Args:
            tasks: by key.
            schedule: their states, which others change.
            workers: how many tasks run at a time; None if a cluster decides.
            is_shown: whether to draw a bar on a terminal.
        """
        self._tasks, self._schedule, self._workers = tasks, schedule, workers
        self._is_shown = is_shown and is_terminal()
        self._stack = ExitStack()
        self._bar: tqdm[Never] | None = None

    def __enter__(self) -> Self:
        if self._is_shown and self._tasks:
            form = "graph: {n_fmt} of {total_fmt} done, {elapsed}{postfix}"
            self._bar = self._stack.enter_context(tqdm(total=len(self._tasks), bar_format=form, mininterval=0))
            # after the bar and around the graph alone, because Hydra replaces the handlers for every job
            self._stack.enter_context(logging_redirect_tqdm())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ended(self, key: str, error: str | None) -> None:
        """A task is done, or failed."""
        task, rest = self._tasks[key], "" if self._bar is not None else f"; {self.line()}"
        if error is None:
            log.info("graph: %s done in %.1f s%s", task.label, self._schedule.done[key], rest)
        else:
            log.error("graph: %s failed: %s%s", task.label, error.splitlines()[0], rest)
        if self._bar is not None:
            self._bar.update()
        self.show()

    def show(self) -> None:
        """Draw the bar again."""
        if self._bar is not None:
            self._bar.set_postfix_str(self.line().partition(", ")[2])

    def line(self) -> str:
        """The state in words."""
        state = self._schedule
        parts = [f"{len(state.done)} of {len(self._tasks)} done"]
        labels = [self._tasks[key].label for key in self._tasks if key in state.running]
        if labels:
            more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
            parts.append(f"running {', '.join(labels[:_NAMED])}{more}")
        parts.append(f"{len(state.waiting)} waiting")
        if state.failed:
            parts.append(f"{len(state.failed)} failed")
        kinds = {key: _kind(task) for key, task in self._tasks.items() if key not in state.failed}
        left = seconds_left(kinds, state.done, self._workers)
        return ", ".join(parts) + (f", about {_duration(left)} left" if left else "")


def _kind(task: Task) -> str:
    """What takes similarly long: the stage, and whether it trains."""
    return "training" if task.step.trains else task.stage


def seconds_left(stages: Mapping[str, str], done: Mapping[str, float], workers: int | None) -> float | None:
    """An estimate of the seconds that the rest takes, from those that tasks of the same stages took.

    Args:
        stages: the stage of each task.
        done: the seconds of each task that is done.
        workers: how many tasks run at a time; None if as many as there are.

    Returns:
        The seconds; None before the first task is done. A stage of which no task is done counts as the longest of all.

    >>> seconds_left({"a": "fit", "b": "fit", "c": "fit", "d": "encode"}, {"a": 10.0, "d": 4.0}, 2)
    10.0
    """
    if not done:
        return None
    rest = Counter(stage for key, stage in stages.items() if key not in done)
    known = {stage: [done[key] for key in done if stages.get(key) == stage] for stage in rest}
    longest = max(done.values())
    total = sum(count * (mean(known[stage]) if known[stage] else longest) for stage, count in rest.items())
    return total / max(1, min(workers or rest.total(), rest.total()))


def _duration(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
