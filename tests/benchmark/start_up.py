"""What commands cost that compute little or nothing: `python -m tests.benchmark.start_up --output experiments/speed`.

Each is a process of its own, in turns, several rounds; what counts is its CPU time less that of Python's own start,
`python -c pass`, in the same round. The main job is `python run.py` with two training steps instead of 500, which
changes nothing about what is made already.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from irexp.artifact.hardware import usable_processors
from irexp.artifact.provenance import processor
from irexp.peer.lines import write_section

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]

#: Python's own start.
PYTHON = "python"

#: The main job; all of its artifacts are made before the first round.
MAIN = ("training.steps=2", "training.validate_every=null")

BM25 = ("model=bm25", "stage=[index,search,evaluate]")

#: What is measured, as typed after run.py; `NEW` stands for a new folder of artifacts in each round.
NEW = "paths.artifacts=NEW"
COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": ("--help",),
    "a wrong option": ("loss=listnett",),
    "a stage that is made": (*MAIN, "stage=search"),
    "the main job again": MAIN,
    "BM25, made": (*BM25, NEW),
}


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """The CPU seconds of a command and the processes that it waits for."""
    before = os.times()
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def typed(arguments: Sequence[str], artifacts: Path, new: Path) -> list[str]:
    """A command line of run.py."""
    places = [f"paths.artifacts={new if NEW in arguments else artifacts}", f"hydra.run.dir={artifacts.parent / 'job'}"]
    more = [] if "--help" in arguments else ["machine=cpu", *places]
    return [sys.executable, "run.py", *(argument for argument in arguments if argument != NEW), *more]


def measure(
    rounds: int, folder: Path, seconds_of: Callable[[Sequence[str], Path], float] = cpu_seconds
) -> dict[str, list[float]]:
    """The CPU seconds of each command in each round, and those of Python's own start.

    Args:
        rounds: how many.
        folder: a new folder for artifacts.
        seconds_of: measures a command.
    """
    seconds_of(typed(MAIN, folder / "artifacts", folder), ROOT)
    found: dict[str, list[float]] = {name: [] for name in (PYTHON, *COMMANDS)}
    for number in range(rounds):
        found[PYTHON].append(seconds_of([sys.executable, "-c", "pass"], ROOT))
        for name, arguments in COMMANDS.items():
            command = typed(arguments, folder / "artifacts", folder / f"new{number}")
            found[name].append(seconds_of(command, ROOT))
            log.info("round %d, %s: %.2f s", number + 1, name, found[name][-1])
    return found


def table(found: Mapping[str, Sequence[float]]) -> str:
    """The Markdown table: medians over the rounds of what a command takes beyond Python's own start."""
    own = f"| Python's own start: `python -c pass` | {statistics.median(found[PYTHON]):.2f} |"
    rows = ["| command | CPU s |", "| --- | ---: |", own]
    for name in COMMANDS:
        beyond = [seconds - own for seconds, own in zip(found[name], found[PYTHON], strict=True)]
        rows.append(f"| {name}: `{' '.join(_shown(COMMANDS[name]))}` | {statistics.median(beyond):.2f} |")
    return "\n".join(rows)


def _shown(arguments: Sequence[str]) -> list[str]:
    return ["python run.py", *(argument for argument in arguments if argument not in (*MAIN, NEW))]


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a folder for start_up.json, whose README.md gets the table")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as place:
        found = measure(options.rounds, Path(place))
    about = f"{processor()}, {usable_processors()} cores"
    shown = f"{about}.\n\n{table(found)}"
    if options.output is not None:
        record = {"processor": about, "cpu_seconds": found}
        (options.output / "start_up.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
        write_section(options.output / "README.md", "start_up", shown)
    log.info("%s", shown)


if __name__ == "__main__":
    main()
