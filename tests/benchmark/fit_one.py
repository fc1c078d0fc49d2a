"""One training in one library, in that library's own environment: `python -m tests.benchmark.fit_one FOLDER`.

FOLDER/job.json is a `tests.benchmark.fit_job.Job`. The trained model goes to FOLDER/model, and what was measured to
FOLDER/result.json. A step lasts from the end of one call of the optimizer to the end of the next, in every library.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.benchmark.fit_job import Job

#: Steps at the beginning that are not timed, unless they were half of all.
WARM_UP = 10


def train(job: Job, folder: Path) -> float:
    """Train in the job's library, save in the folder, and return the loss of the probe before."""
    match job.library:
        case "irexp":
            from tests.benchmark import fit_irexp

            return fit_irexp.train(job, folder)
        case "sentence-transformers":
            from tests.benchmark import fit_sentence_transformers

            return fit_sentence_transformers.train(job, folder)
        case "pylate":
            from tests.benchmark import fit_pylate

            return fit_pylate.train(job, folder)
        case "lightning-ir":
            from tests.benchmark import fit_lightning_ir

            return fit_lightning_ir.train(job, folder)
    raise ValueError(f"{job.library} is not a library of this benchmark")


def main(folder: Path) -> None:
    """Train, and write what was measured."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf8")))
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    ends: list[float] = []
    register_optimizer_step_post_hook(lambda *_: ends.append(time.process_time()))
    probe = train(job, folder / "model")
    assert len(ends) == job.steps, f"{len(ends)} optimizer steps instead of {job.steps}"
    first = min(WARM_UP, job.steps // 2)
    own = [] if job.library == "irexp" else [job.library]
    found = {
        "probe_loss": probe,
        "cpu_seconds": (ends[-1] - ends[first]) / (job.steps - 1 - first),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": {package: version(package) for package in (*own, "torch", "transformers")},
    }
    (folder / "result.json").write_text(json.dumps(found), encoding="utf8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
