"""Kill the table of experiment=sbert_splade_colbert at random moments: `python -m tests.reliability.kill_table`.

It is made as one graph by two processes, with a few training steps. The command is killed by SIGKILL several times in a
row and then left alone: every file must be that of a command that was never killed, and no process may stay. With
`--toys` the collection is a dozen documents, so that a command takes half a minute.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.reliability.jobs import LOG, ROOT, write_queries
from tests.reliability.kill import content

#: The command, which stores artifacts and output below the folder that it is started in.
COMMAND = (
    *(
        "-m",
        "experiment=sbert_splade_colbert",
        "hydra/launcher=graph",
        "training.steps=20",
        "training.validate_every=10",
    ),
    *("machine.resume_every=5", "machine.progress=false", "paths.artifacts=artifacts", "hydra.sweep.dir=output"),
)


def start(folder: Path, more: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in a folder; its log is added to the folder's."""
    folder.mkdir(exist_ok=True)
    with (folder / LOG).open("a") as log:
        arguments = [sys.executable, str(ROOT / "run.py"), *COMMAND, *more]
        return subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log)


def kill(job: subprocess.Popen[bytes]) -> str:
    """Kill a command; returns an error if what it has started outlives it, else an empty text."""
    started = psutil.Process(job.pid).children(recursive=True)
    job.send_signal(signal.SIGKILL)
    job.wait()
    _, alive = psutil.wait_procs(started, timeout=20)
    return f"still running: {alive}" if alive else ""


def main() -> int:
    """Kill as often as asked for; the exit status is 1 if a file differs, a command fails, or a process stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="kills in all")
    parser.add_argument("--row", type=int, default=5, help="kills in a row before the command is left alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toys", action="store_true", help="a dozen documents instead of the embedded collection")
    chosen = parser.parse_args()
    chance, faults, hit = random.Random(chosen.seed), list[str](), 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        toys = ["dataset=local", f"dataset.path={write_queries(root / 'toys')}"] if chosen.toys else []
        begun = time.perf_counter()
        assert start(root / "undisturbed", toys).wait() == 0, (root / "undisturbed" / LOG).read_text()
        seconds = time.perf_counter() - begun
        wanted = content(root / "undisturbed" / "artifacts")
        sys.stderr.write(f"undisturbed: {seconds:.0f} s, {len(wanted)} files\n")
        for number in range(chosen.times):
            folder = root / f"killed-{number // chosen.row}"
            job = start(folder, toys)
            try:
                job.wait(chance.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                faults += filter(None, [kill(job)])
                hit += 1
            made = len(list((folder / "artifacts").glob("*/[!.]*/manifest.json")))
            sys.stderr.write(f"{number + 1}: killed with {made} artifacts made\n")
            if number % chosen.row == chosen.row - 1 or number == chosen.times - 1:
                if start(folder, toys).wait() != 0:
                    faults.append((folder / LOG).read_text()[-2000:])
                found = content(folder / "artifacts")
                differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
                faults += [f"{folder.name}: differing: {differing}"] if differing else []
                sys.stderr.write(f"{folder.name}: {'WRONG' if faults else 'as undisturbed'}\n")
    sys.stdout.write("\n".join([*faults, f"{hit} killed, {len(faults)} faults", ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
