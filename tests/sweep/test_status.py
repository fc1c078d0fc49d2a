"""The state of a graph as a line and as a file, while a runner makes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from irexp.sweep.graph import Graph, Planned, Task, merge
from irexp.sweep.runner import Result, run_graph
from irexp.sweep.schedule import Schedule
from irexp.sweep.status import Status
from tests.chains import Compose, planned, settings


@pytest.fixture
def graph(compose: Compose, tmp_path: Path, collection: Path) -> Graph:
    """Two indexes, a search of each."""
    plans = (
        planned(compose, settings(tmp_path, collection, "model=bm25", more), ["index", "search"])
        for more in ("index.k1=1", "index.k1=2")
    )
    return merge({number: Planned(plan, {}) for number, plan in enumerate(plans)})


class InOrder:
    """Makes one task at a time, which takes ten seconds or has an error, and reads the file before each ends."""

    is_early = False

    def __init__(self, file: Path, errors: Sequence[str | None]) -> None:
        """The errors are those of the first, second, … task."""
        self.count: int | None = 1
        self._file, self._errors, self._key = file, list(errors), ""
        self.read: list[str] = []

    @property
    def is_free(self) -> bool:
        """Whether no task runs."""
        return not self._key

    def start(self, task: Task) -> None:
        """Begin a task."""
        self._key = task.key

    def wait(self) -> list[Result]:
        """The end of the task."""
        self.read.append(self._file.read_text())
        ended = Result(self._key, 10.0, self._errors.pop(0))
        self._key = ""
        return [ended]

    def drop(self, key: str) -> None:
        """Nothing is handed over early."""

    def close(self) -> None:
        """Nothing is left."""


def test_the_file_is_written_at_each_change(graph: Graph, tmp_path: Path) -> None:
    """What runs, since when, what waits, what failed and why, and when all is done; at the end that it has ended."""
    file = tmp_path / "progress.txt"
    runner = InOrder(file, [None, "DataError: no text\nin line 3", None])  # both indexes come before a search
    first, one_run, second, other_run = (task.label for task in graph.tasks.values())
    run_graph(graph.tasks, runner, is_shown=False, file=file)
    begun = runner.read[0].splitlines()
    assert begun[0] == "0 of 4 done, 1 running, 3 waiting, 0 failed"
    assert begun[2] == "estimated end: not known before the first is done"
    assert begun[4] == "running:" and begun[5].startswith(f"  {first}, since {time.strftime('%Y-')}")
    assert begun[6:] == ["", "waiting:", *(f"  {label}" for label in (one_run, second, other_run))]
    assert "estimated end: 20" in runner.read[1]
    ended = file.read_text().splitlines()
    assert ended[0] == "2 of 4 done, 0 running, 0 waiting, 2 failed" and ended[2] == "ended"
    assert ended[4:] == [
        *("failed:", f"  {second}: DataError: no text", f"  {other_run}: needs {second}", ""),
        *("done:", f"  {first}, 10 s", f"  {one_run}, 10 s"),
    ]
    assert not list(tmp_path.glob(".partial-*"))


def test_a_stopped_graph_says_so_in_its_file(graph: Graph, tmp_path: Path) -> None:
    """So that a file in which a task runs is one of a graph that runs, or was killed."""
    file = tmp_path / "progress.txt"
    schedule = Schedule({key: task.needs for key, task in graph.tasks.items()})
    with pytest.raises(KeyboardInterrupt), Status(graph.tasks, schedule, workers=1, is_shown=False, file=file):
        raise KeyboardInterrupt
    assert file.read_text().splitlines()[2] == "stopped"


def test_the_line_names_what_runs_and_how_long_the_rest_takes(graph: Graph) -> None:
    """One of two indexes took ten seconds; a second one and two searches are left for one worker."""
    schedule = Schedule({key: task.needs for key, task in graph.tasks.items()})
    first, _, second, _ = graph.tasks
    status = Status(graph.tasks, schedule, workers=1, is_shown=False)
    schedule.start(first)
    schedule.finish(first, 10.0)
    schedule.start(second)
    assert status.line() == f"1 of 4 done, running {graph.tasks[second].label}, 2 waiting, about 30 s left"


def test_a_long_list_is_cut(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted, so that the file of a large graph stays small."""
    monkeypatch.setattr("irexp.sweep.status._LISTED", 3)
    schedule = Schedule({key: task.needs for key, task in graph.tasks.items()})
    assert Status(graph.tasks, schedule, workers=1).text().splitlines()[-1] == "  and 1 more"
