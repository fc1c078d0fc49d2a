"""The state of a whole graph: a bar on a terminal, otherwise a line in the log per task; and always a file."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from types import TracebackType
from typing import Never, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from irexp.progress import is_terminal
from irexp.sweep.graph import Task
from irexp.sweep.schedule import Schedule

log = logging.getLogger(__name__)

#: Running tasks that are named in the line; the others are counted.
_NAMED = 3

#: Tasks that are listed in the file for each state; the others are counted.
_LISTED = 50


class Status:
    """What is done, running, waiting and failed, and about how long the rest takes."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        schedule: Schedule,
        *,
        workers: int | None,
        is_shown: bool = True,
        file: Path | None = None,
    ) -> None:
        """Nothing is shown before the context is entered.

        Args:
            tasks: by key.
            schedule: their states, which others change.
            workers: how many tasks run at a time; None if a cluster decides.
            is_shown: whether to draw a bar on a terminal.
            file: where the state is written at each change; None to write none.
        """
        self._tasks, self._schedule, self._workers, self._file = tasks, schedule, workers, file
        self._is_shown = is_shown and is_terminal()
        self._stack = ExitStack()
        self._bar: tqdm[Never] | None = None
        self._begun: dict[str, float] = {}
        self._errors: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._is_shown and self._tasks:
            form = "graph: {n_fmt} of {total_fmt} done, {elapsed}{postfix}"
            self._bar = self._stack.enter_context(tqdm(total=len(self._tasks), bar_format=form, mininterval=0))
            # after the bar and around the graph alone, because Hydra replaces the handlers for every job
            self._stack.enter_context(logging_redirect_tqdm())
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._write("ended" if kind is None else "stopped")

    def ended(self, key: str, error: str | None) -> None:
        """A task is done, or failed."""
        task, rest = self._tasks[key], "" if self._bar is not None else f"; {self.line()}"
        if error is None:
            log.info("graph: %s done in %.1f s%s", task.label, self._schedule.done[key], rest)
        else:
            self._errors[key] = error.splitlines()[0]
            log.error("graph: %s failed: %s%s", task.label, self._errors[key], rest)
        if self._bar is not None:
            self._bar.update()
        self.show()

    def show(self) -> None:
        """Draw the bar again, and write the file."""
        for key in self._schedule.running:
            self._begun.setdefault(key, time.time())
        if self._bar is not None:
            self._bar.set_postfix_str(self.line().partition(", ")[2])
        self._write()

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
        left = self._left()
        return ", ".join(parts) + (f", about {_duration(left)} left" if left else "")

    def text(self, end: str | None = None) -> str:
        """The state as a file: counts and the estimated end, and what is running, waiting, failed and done.

        Args:
            end: how the graph has ended; None as long as it runs.
        """
        state, now, left = self._schedule, time.time(), self._left()
        counts = f"{len(state.done)} of {len(self._tasks)} done, {len(state.running)} running, "
        counts += f"{len(state.waiting)} waiting, {len(state.failed)} failed"
        estimate = "not known before the first is done" if left is None else _clock(now + left)
        running = [key for key in self._tasks if key in state.running]
        lists = {
            "running": [f"{self._tasks[key].label}, since {_clock(self._begun.get(key, now))}" for key in running],
            "waiting": [self._tasks[key].label for key in state.waiting],
            "failed": [self._failure(key) for key in state.failed],
            "done": [f"{self._tasks[key].label}, {_duration(seconds)}" for key, seconds in state.done.items()],
        }
        lines = [counts, f"written: {_clock(now)}", end or f"estimated end: {estimate}"]
        for title, items in lists.items():
            more = [f"and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
            lines += ["", f"{title}:", *(f"  {item}" for item in [*items[:_LISTED], *more])] if items else []
        return "\n".join(lines) + "\n"

    def _write(self, end: str | None = None) -> None:
        """Replace the file at once, so that a reader never sees half of it."""
        if self._file is not None:
            partial = self._file.with_name(f".partial-{self._file.name}")
            partial.write_text(self.text(end), encoding="utf8")
            os.replace(partial, self._file)

    def _failure(self, key: str) -> str:
        """A failed task with its error, or with the failed one that it needs."""
        cause = self._tasks[self._schedule.failed[key]].label
        return f"{self._tasks[key].label}: {self._errors.get(key, f'needs {cause}')}"

    def _left(self) -> float | None:
        kinds = {key: _kind(task) for key, task in self._tasks.items() if key not in self._schedule.failed}
        return seconds_left(kinds, self._schedule.done, self._workers)


def _kind(task: Task) -> str:
    """What takes similarly long: the stage, whether it trains, and whether it is a share."""
    return "training" if task.step.trains else f"{task.stage} {task.share is not None}"


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


def _clock(seconds: float) -> str:
    """A time, with its date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
