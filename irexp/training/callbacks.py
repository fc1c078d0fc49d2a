"""What happens beside the training step: a history that survives a kill, and the checkpoint to go on from."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

#: What the history says of a step.
COLUMNS = ("step", "name", "value")


class History(Callback):
    """Losses and validations as `history.csv`: step, name, value."""

    def __init__(self, path: Path, *, every: int) -> None:
        """The history of a training.

        Args:
            path: the file; what a killed process wrote behind the step it is resumed at is cut off.
            every: optimizer steps between two losses.
        """
        self._path, self._every, self._written = path, every, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut off what is behind the present step."""
        if trainer.is_global_zero:
            rows = [row for row in read_history(self._path) if int(row["step"]) <= trainer.global_step]
            with self._path.open("w", newline="", encoding="utf8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            self._written = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Write the loss."""
        step = trainer.global_step
        if step % self._every == 0 and step > self._written:
            self._append(trainer, step, {"train/loss": trainer.callback_metrics["train/loss"]})
            self._written = step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the measure."""
        found = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("validation/")}
        self._append(trainer, trainer.global_step, found)

    def _append(self, trainer: Trainer, step: int, values: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            is_new = not self._path.exists()
            with self._path.open("a", newline="", encoding="utf8") as file:
                writer = csv.writer(file)
                if is_new:
                    writer.writerow(COLUMNS)
                writer.writerows((step, name, f"{float(value):.6g}") for name, value in values.items())


class Resumable(Callback):
    """Writes the checkpoint from which a killed training goes on, between two steps and behind a validation."""

    def __init__(self, path: Path, *, every: int) -> None:
        """Every so many optimizer steps."""
        self._path, self._every, self._saved = path, every, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save before a step begins: the step before it is complete, and so is its validation."""
        step = trainer.global_step
        if step == self._saved or step % self._every or batch_idx % trainer.accumulate_grad_batches:
            return
        self._saved = step
        temporary = self._path.with_suffix(".partial")
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            os.replace(temporary, self._path)


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of a history; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def validations(path: Path, name: str) -> dict[int, float]:
    """The values of a measure in a history by step, those of the trained model."""
    return {
        int(row["step"]): float(row["value"])
        for row in read_history(path)
        if row["name"] == name and int(row["step"]) > 0
    }
