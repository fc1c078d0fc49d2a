"""The verdict on a training: the selected checkpoint against the model before it and against the last validation.

Shapes: Q validation queries.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from lightning import Callback, LightningModule, Trainer

from irexp.evaluation.significance import paired_t_test
from irexp.training.callbacks import read_history
from irexp.training.module import RetrievalModule

log = logging.getLogger(__name__)

#: A difference with a larger p-value is not called significant.
ALPHA = 0.05


class PerQuery(Callback):
    """Keeps the values per query of each validation in `per_query-<step>.npy`, which a resumed training finds again."""

    def __init__(self, folder: Path) -> None:
        """Choose the folder of working files."""
        self._folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the values of the measure that selects the checkpoint."""
        assert isinstance(pl_module, RetrievalModule) and pl_module.validated is not None
        if trainer.is_global_zero:
            path = _file(self._folder, trainer.global_step)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, pl_module.validated.value_Q)
            os.replace(partial, path)


def verdict(folder: Path, name: str, step: int) -> dict[str, float]:
    """Log in one line how the selected checkpoint compares, and warn if training has not helped.

    The p-values are those of Student's paired t-test over the validation queries. The checkpoint was selected by the
    same queries, so that they are optimistic where there were many validations.

    Args:
        folder: of the checkpoint, with `history.csv` and the working files of the training.
        name: the measure in the history, such as validation/nDCG@10.
        step: the step of the selected checkpoint.

    Returns:
        `start/<measure>` and `start/p_value`: of the untrained model, and of its difference to the selected checkpoint;
        `last/<measure>` and `last/p_value` likewise, if the last validation is not the selected one.
    """
    rows = [row for row in read_history(folder / "history.csv") if row["name"] == name]
    value_at = {int(row["step"]): float(row["value"]) for row in rows}
    last, measure = max(value_at), name.removeprefix("validation/")
    if not all(_file(folder / ".training", each).is_file() for each in (0, step, last)):
        log.warning("fit: no verdict: this training was begun by an earlier version, which kept no values per query")
        return {}
    start = _Comparison(folder / ".training", value_at, step, 0)
    found = {f"start/{measure}": value_at[0], "start/p_value": start.p_value}
    line = f"fit: validation {measure} {value_at[0]:.4f} at the start"
    if last == step:
        line += f", best {value_at[step]:.4f} at step {step}, the last: {start}"
    else:
        end = _Comparison(folder / ".training", value_at, step, last)
        found |= {f"last/{measure}": value_at[last], "last/p_value": end.p_value}
        line += f", {value_at[last]:.4f} at step {last}, best {value_at[step]:.4f} at step {step}: {start}"
        line += f", {end.difference:+.4f} against step {last} (p {_p(end.p_value)})"
    log.info("%s", line)
    if start.difference <= 0 or start.p_value > ALPHA:
        log.warning(
            "fit: the selected checkpoint is %s the model before training; lower training.learning_rate, train for "
            "longer, or check dataset.train",
            "not significantly better than" if start.difference > 0 else "not better than",
        )
    return found


class _Comparison:
    """The selected checkpoint against another step."""

    def __init__(self, folder: Path, value_at: dict[int, float], step: int, other: int) -> None:
        value_Q, other_Q = (np.load(_file(folder, each)) for each in (step, other))
        self.difference = value_at[step] - value_at[other]
        self.p_value = paired_t_test(value_Q, other_Q)
        self._queries = len(value_Q)

    def __str__(self) -> str:
        return f"{self.difference:+.4f} (p {_p(self.p_value)} over {self._queries} queries)"


def _p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _file(folder: Path, step: int) -> Path:
    return folder / f"per_query-{step}.npy"
