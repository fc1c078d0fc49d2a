"""Shared by the steps of the smoke test: commands under a time limit, and checks of figures."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Check:
    """A figure and what is expected of it; with `expected` None it is only reported and cannot fail."""

    name: str
    value: Any
    expected: str | None = None
    passed: bool = True


class Skipped(Exception):
    """This machine lacks something that a step needs."""


@dataclass
class Bench:
    """The folders and limits of a step.

    Attributes:
        output: where logs and results go.
        scratch: where artifacts go.
        machine: the option of `machine` that most commands take.
        faiss_gpu: a folder with a faiss that has GPU support, to be imported before the installed one; or None.
        number: the step's number.
        deadline: the end of the step's time, by the monotonic clock.
    """

    output: Path
    scratch: Path
    machine: str
    faiss_gpu: Path | None
    number: int = 0
    deadline: float = math.inf

    def python(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run Python in the repository and return its output.

        Raises:
            RuntimeError: if it fails or takes too long, with its last lines.
        """
        process = self.start(*arguments, environment=environment)
        outcome = "stopped at the time limit"
        try:
            printed, _ = process.communicate(timeout=max(1.0, self.deadline - time.monotonic()))
            outcome = f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
        with (self.output / "smoke.log").open("a", encoding="utf8") as file:
            file.write(f"\n$ python {' '.join(arguments)}   # step {self.number}, {outcome}\n{printed}")
        if process.returncode:
            raise RuntimeError(f"{outcome}: " + "\n".join(printed.splitlines()[-15:]))
        return printed

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start Python in the repository, in a new process group."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def command(self, name: str, *overrides: str) -> list[str]:
        """The arguments of a job that writes its record to the folder `name` of the scratch folder."""
        own = [override.partition("=")[0] for override in overrides]
        common = {
            "machine": self.machine,
            "machine.progress": "false",
            "machine.threads": "4",
            "paths.artifacts": str(self.scratch / "artifacts"),
            "hydra.run.dir": str(self.scratch / name),
        }
        return ["run.py", *(f"{key}={value}" for key, value in common.items() if key not in own), *overrides]

    def job(self, name: str, *overrides: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run a job and return its stages by name."""
        self.python(*self.command(name, *overrides), environment=environment)
        return self.record(name)

    def record(self, name: str) -> dict[str, Any]:
        """The stages of a job by name."""
        record = json.loads((self.scratch / name / "summary.json").read_text(encoding="utf8"))
        return {stage["stage"]: stage for stage in record["stages"]}


def near(name: str, value: float, expected: float, tolerance: float) -> Check:
    """A figure that must be within a tolerance of the expected one."""
    return Check(name, round(value, 4), f"{expected:.4f} ± {tolerance:g}", abs(value - expected) <= tolerance)
