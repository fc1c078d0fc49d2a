"""How trackers show a job, and how it ended; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrackedJob:
    """How a tracker shows a job.

    Attributes:
        id: the same for the same settings, so that the same command continues what it has logged.
        name: the swept settings, outside a sweep the model and the dataset.
        stage: the stage whose result it shows: the last one of the job that makes an artifact.
        group: the sweep that the job belongs to, if any.
    """

    id: str
    name: str
    stage: str
    group: str | None = None


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        outcome: a pruned job was ended early by a sweeper, a stopped one by a signal.
        error: why it failed or ended early; None if it is done.
    """

    outcome: Literal["done", "pruned", "failed", "stopped"] = "done"
    error: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the job did what it should; a pruned one did."""
        return self.outcome in ("done", "pruned")
