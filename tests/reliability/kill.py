"""Kill commands at random moments and run them again: the artifacts are those of a command that was left alone.

    python -m tests.reliability.kill --times 50

Every stage is hit, and a sweep, by SIGKILL and by SIGTERM. Files are compared byte by byte, manifests without times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.reliability.jobs import LOG, command, finish, start, write_queries

_TRAINING = (
    *("training.steps=6", "training.batch_size=4", "training.validate_every=2", "machine.resume_every=1"),
    *("training.validation_documents=null", "training.validation_queries=null"),
)

_TEACHER = (
    '["model=mono","training.steps=2","training.batch_size=4","training.validate_every=null","negatives.depth=4"]'
)

#: Commands that together run every stage that makes an artifact.
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": (*_TRAINING, 'baselines=[["model=bm25"]]'),
    "adapter": (*_TRAINING, "adapter=lora", "index=faiss_hnsw"),
    "mine": (
        *(*_TRAINING, "negatives=mined", "negatives.depth=6", "negatives.absolute_margin=0.0", "loss=margin_mse"),
        *(f"negatives.scores={_TEACHER}", f"teacher.scores={_TEACHER}", "model.similarity=dot"),
    ),
    "splade": ("training=none", "model=splade", "index=sparse"),
    "re_rank": ("training=none", "re_rank=bm25"),
    "fuse": ("training=none", "fuse=bm25_and_sbert", 'fuse.runs=[["model=bm25"],["model=sbert","training=none"]]'),
    "speed": ("model=bm25", "stage=[all,speed]"),
    "tune": ("model=bm25", "stage=tune", "stage.tune.sweep=['index.k1=0.6,0.9']"),
    "sweep": ("-m", "training=none", "model=sbert,colbert,bm25"),
    "table": ("training=none", 'rows={BM25: ["model=bm25"], SBERT: [], Deep: ["search.depth=9"]}'),
}

#: What of a manifest's record differs from one execution to the next; the code's commit, if one is made meanwhile.
_TIMES = ("finished", "seconds", "peak_memory_mib", "git", "output", "determinism", "resources")


def content(artifacts: Path) -> dict[str, Any]:
    """Every file of a store except locks, with its content; of a manifest what does not depend on the execution.

    Of what stage=speed measured, and of the ir_metadata beside a run, only the names of the files.
    """
    found: dict[str, Any] = {}
    for path in sorted(artifacts.rglob("*")):
        if path.is_file() and not path.name.startswith(".lock-"):
            name = path.relative_to(artifacts).as_posix()
            if not name.startswith("speed/") and not name.endswith(".ir_metadata.yml"):
                found[name] = _without_times(path) if path.name == "manifest.json" else path.read_bytes()
            else:
                found[name] = None
    return found


def _without_times(manifest: Path) -> Any:
    found = json.loads(manifest.read_text())
    del found["checksum"]
    for key in _TIMES:
        found["provenance"].pop(key, None)
    return found


def kill_in_stage(
    job: BaseProcess, log: Path, chance: random.Random, *, wanted: int, stages: int, seconds: float
) -> str:
    """Send a signal to a command at a random moment of a stage, more often near its start: some take milliseconds.

    Args:
        job: the command, just started.
        log: its log, empty before.
        chance: the source of random numbers.
        wanted: the number of artifacts, of all that the command makes, that it has begun.
        stages: how many artifacts the command makes.
        seconds: how long the command takes.

    Returns:
        What was hit: the stage that the log names last.
    """
    while job.is_alive() and len(_made(log)) < wanted:
        time.sleep(0.001)
    time.sleep(chance.random() ** 3 * min(0.5, seconds / (stages + 1)))
    assert job.pid is not None
    if not job.is_alive():
        return "nothing: the command had ended"
    os.kill(job.pid, chance.choice([signal.SIGKILL, signal.SIGTERM]))
    job.join()
    made = _made(log)
    return made[-1] if made else "before the first stage"


def _made(log: Path) -> list[str]:
    """The stages that a log says were begun."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line.split(":")[2].split()[-1] for line in lines if ": making " in line]


def main() -> int:
    """Kill as often as asked for; the exit status is 1 if an artifact differs or a command fails afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance, hit, faults = random.Random(chosen.seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        collection = write_queries(root / "toys")
        undisturbed: dict[str, tuple[dict[str, Any], int, float]] = {}
        orders: dict[str, list[int]] = {}
        for number in range(chosen.times):
            title = list(COMMANDS)[number % len(COMMANDS)]
            arguments = command(collection, *COMMANDS[title])
            if title not in undisturbed:
                begun = time.perf_counter()
                assert finish(root / title, arguments) == 0, (root / title / LOG).read_text()
                seconds = time.perf_counter() - begun
                made = len(_made(root / title / LOG))
                undisturbed[title] = content(root / title / "artifacts"), made, seconds
                orders[title] = chance.sample(range(made + 1), made + 1)  # each is hit before one is hit again
            wanted, made, seconds = undisturbed[title]
            folder = root / f"{title}-{number}"
            stage = kill_in_stage(
                start(folder, arguments),
                folder / LOG,
                chance,
                wanted=orders[title][number // len(COMMANDS) % (made + 1)],
                stages=made,
                seconds=seconds,
            )
            hit[f"{title}: {stage}"] += 1
            status = finish(folder, arguments)
            found = content(folder / "artifacts")
            differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            is_good = status == 0 and not differing
            sys.stderr.write(f"{number + 1}: {title}, {stage}: {'as undisturbed' if is_good else 'WRONG'}\n")
            if not is_good:
                log = (folder / LOG).read_text()[-2000:]
                faults.append(f"{title}, killed in {stage}: status {status}, differing: {differing}\n{log}")
    lines = [f"{count:4} times in {stage}" for stage, count in sorted(hit.items())]
    sys.stdout.write("\n".join([*lines, *faults, f"{chosen.times} killed, {len(faults)} not made good", ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
