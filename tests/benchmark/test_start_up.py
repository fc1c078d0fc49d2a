"""The benchmark of what commands cost that compute little: what is typed, and what its table shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmark.start_up import COMMANDS, PYTHON, ROOT, cpu_seconds, measure, table


def test_each_command_is_measured_in_each_round_after_the_main_job(tmp_path: Path) -> None:
    """The first command makes the artifacts; only what is made new has a folder of its own in each round."""
    typed: list[list[str]] = []

    def seconds_of(command: Sequence[str], folder: Path) -> float:
        assert folder == ROOT
        typed.append(list(command))
        return float(len(typed))

    found = measure(2, tmp_path, seconds_of)
    assert {name: len(seconds) for name, seconds in found.items()} == dict.fromkeys((PYTHON, *COMMANDS), 2)
    assert len(typed) == 1 + 2 * (1 + len(COMMANDS))
    assert typed[0] == typed[2 + list(COMMANDS).index("the main job again")]
    own = f"paths.artifacts={tmp_path / 'artifacts'}"
    news = [[word for word in command if "paths" in word] for command in typed if "model=bm25" in command]
    assert news == [[f"paths.artifacts={tmp_path / f'new{number}'}"] for number in range(2)]
    assert all(own in command for command in typed if "stage=search" in command)
    assert [sys.executable, "run.py", "--help"] in typed


def test_the_table_leaves_out_pythons_own_start() -> None:
    """The median over the rounds of the difference in each."""
    found = {PYTHON: [1.0, 2.0, 1.0], **{name: [2.0, 4.5, 2.5] for name in COMMANDS}}
    rows = table(found).splitlines()
    assert rows[3] == "| --help: `python run.py --help` | 1.50 |"
    assert rows[6] == "| the main job again: `python run.py` | 1.50 |"
    assert len(rows) == 3 + len(COMMANDS)


def test_cpu_time_is_that_of_the_process() -> None:
    """What a process computes is counted, though not how long it waits."""
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert cpu_seconds([sys.executable, "-c", busy], ROOT) >= 0.49  # the system counts in hundredths
