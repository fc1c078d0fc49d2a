"""One library at work in its own environment: `python -m irexp.peer.worker LIBRARY`.

It reads a JSON object per line: the fields of `irexp.peer.work.Work`, or with the task fit those of
`irexp.peer.training.Training` and a folder for the trained model. It answers each with a line: the processor and
wall-clock seconds, and the peak memory of this process in MiB. Before the first one it writes the packages' versions.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from irexp.artifact.hardware import usable_processors
from irexp.peer.chain import Chain, timed
from irexp.peer.training import Training
from irexp.peer.work import Work

#: Steps at the beginning of a training that are not timed, unless they were half of all.
WARM_UP = 10


def _module(library: str) -> Any:
    return import_module(f"irexp.peer.library_{library}")


@cache
def _opened(
    library: str, task: str, model: str, folder: str, lengths: tuple[int, int], device: str
) -> Callable[[Any, Work], Any]:
    """A model in memory; each model is opened once."""
    opener = _module(library).open_encoder if task == "encode" else _module(library).open_scorer
    found: Callable[[Any, Work], Any] = opener(model, folder, *lengths, device)
    return found


def compute(library: str, work: Work) -> dict[str, Any]:
    """Encode or score, and return the seconds."""
    lengths = work.query_length, work.document_length
    found = _opened(library, work.task, work.model, work.folder, lengths, work.device)
    given = work.texts() if work.task == "encode" else work.pairs()
    torch.set_num_threads(work.threads or usable_processors())
    cpu, wall = time.process_time(), time.perf_counter()
    result = found(given, work)
    seconds = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    if work.result is not None:
        np.save(work.result, result)
    return seconds


def train(library: str, training: Training, folder: Path) -> dict[str, Any]:
    """Train, save in the folder, and return the seconds of a step and the loss of the probe before.

    A step lasts from the end of one call of the optimizer to the end of the next, in every library.
    """
    torch.set_num_threads(training.threads or usable_processors())
    torch.manual_seed(training.seed)
    ends: list[tuple[float, float]] = []
    hook = register_optimizer_step_post_hook(lambda *_: ends.append((time.process_time(), time.perf_counter())))
    try:
        probe = _module(library).train(training, folder)
    finally:
        hook.remove()
    assert len(ends) == training.steps, f"{len(ends)} optimizer steps instead of {training.steps}"
    first = min(WARM_UP, training.steps // 2)
    steps = training.steps - 1 - first
    cpu, wall = ((end - start) / steps for start, end in zip(ends[first], ends[-1], strict=True))
    return {"cpu_seconds": cpu, "wall_seconds": wall, "probe_loss": probe}


def peak_memory(device: str = "cpu") -> int:
    """The peak memory in MiB of this process, without that of the one which started it, or what it took of a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved() // 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) // 1024


def answer(library: str, request: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks for."""
    if request["task"] == "fit":
        training = Training(**request["training"])
        found, device = train(library, training, Path(request["folder"])), training.device
    elif request["task"] == "grow":
        found, device = _module(library).grow(request), "cpu"
    elif request["task"] == "chain":
        chain = Chain(**request["chain"])
        torch.set_num_threads(chain.threads or usable_processors())
        found, device = timed(_module(library).stages_of(chain)), "cpu"
    else:
        found, device = compute(library, Work(**request)), request["device"]
    return {**found, "mib": peak_memory(device)}


def main(library: str) -> None:
    """Answer until the input ends; what a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    packages = [*([] if library == "irexp" else [library.replace("_", "-")]), "torch", "transformers"]
    answers.write(json.dumps({package: version(package) for package in packages}) + "\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(answer(library, json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
