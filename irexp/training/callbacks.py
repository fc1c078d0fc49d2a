"""Lightning callbacks: the history, which survives a kill, the checkpoint to resume from, and progress in a log."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from irexp.loss.loss import Loss
from irexp.progress import Progress, progress

#: The columns of the history.
COLUMNS = ("step", "name", "value")


class Best(ModelCheckpoint):
    """Keeps the best weights in its folder, which may have been moved since a training was killed."""

    @property
    def state_key(self) -> str:
        """That of Lightning's class."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of the killed training, with its files in this folder."""
        assert self.dirpath is not None
        folder = str(self.dirpath)

        def moved(path: str) -> str:
            return path and os.path.join(folder, os.path.basename(path))

        paths = {key: moved(value) for key, value in state_dict.items() if key.endswith("_model_path")}
        scores = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})


class History(Callback):
    """Writes losses and validations to `history.csv`: step, name, value."""

    def __init__(self, path: Path, *, every: int) -> None:
        """Choose the file.

        Args:
            path: the file; rows after the step at which a training is resumed are removed.
            every: optimizer steps between two losses.
        """
        self._path, self._every, self._written = path, every, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the rows after the current step."""
        if trainer.is_global_zero:
            rows = [row for row in read_history(self._path) if int(row["step"]) <= trainer.global_step]
            with self._path.open("w", newline="", encoding="utf8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            self._written = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Write the loss, and the parts that it is a sum of."""
        step = trainer.global_step
        if step % self._every == 0 and step > self._written:
            assert isinstance(pl_module.loss, Loss)
            names = ["train/loss", *(f"train/{part.name}" for part in pl_module.loss.parts())]
            self._append(trainer, step, {name: trainer.callback_metrics[name] for name in dict.fromkeys(names)})
            self._written = step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the validation's measures."""
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
    """Writes the checkpoint that a killed training resumes from: between two steps, after any validation."""

    def __init__(self, path: Path, *, every: int) -> None:
        """Write to `path` every `every` optimizer steps."""
        self._path, self._every, self._saved = path, every, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save before a step begins, when the previous step and its validation are complete."""
        step = trainer.global_step
        if step == self._saved or step % self._every or batch_idx % trainer.accumulate_grad_batches:
            return
        self._saved = step
        temporary = self._path.with_suffix(".partial")
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            os.replace(temporary, self._path)


class ProgressLines(Callback):
    """Writes how many steps are done, for a log that is not a terminal; there Lightning draws its bar."""

    def __init__(self) -> None:
        """Nothing is written before the training has begun."""
        self._bar: Progress | None = None
        self._counted = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the first step, or at that of the resumed checkpoint."""
        self._counted = trainer.global_step
        self._bar = progress(
            total=trainer.max_steps, initial=self._counted, unit=" steps", desc="fit", shown=trainer.is_global_zero
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Count the step; with accumulated batches, after the last of them."""
        assert self._bar is not None
        self._bar.update(trainer.global_step - self._counted)
        self._counted = trainer.global_step


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of a history; an empty list if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def validations(path: Path, name: str) -> dict[int, float]:
    """The values of a measure in a history by step, without step 0, the untrained model."""
    return {
        int(row["step"]): float(row["value"])
        for row in read_history(path)
        if row["name"] == name and int(row["step"]) > 0
    }
