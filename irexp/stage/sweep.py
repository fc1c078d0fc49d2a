"""The end of a sweep: a report of its jobs."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

log = logging.getLogger(__name__)


class SweepReport(Callback):
    """Lists the jobs of a sweep with their outcomes, in the log and as summary.json in the sweep's folder.

    The same command again runs only what is missing, since artifacts are found by their identity.
    """

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Log the outcome of each job; the exit status is 1 if one failed."""
        if report_sweep(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def report_sweep(folder: Path) -> int:
    """Log the outcomes of the jobs of a sweep write them to its summary.json, and return how many failed or stopped."""
    jobs: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf8")) for path in _summaries(folder)]
    lines = [
        f"  {job['outcome']:8} {job['seconds']:8.1f} s  {' '.join(job['overrides'])}"
        + (f"\n           {str(job['error']).splitlines()[0]}" if job["error"] else "")
        for job in jobs
    ]
    log.info("%d jobs in %s:\n%s", len(jobs), folder, "\n".join(lines))
    (folder / "summary.json").write_text(json.dumps(jobs, indent=1) + "\n", encoding="utf8")
    failed = len([job for job in jobs if job["outcome"] == "failed"])
    if failed:
        log.error("%d of %d jobs failed; the same command again runs only what is missing", failed, len(jobs))
    return len([job for job in jobs if job["outcome"] not in ("done", "pruned")])


def _summaries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/summary.json"), key=lambda path: (len(path.parent.name), path.parent.name))
