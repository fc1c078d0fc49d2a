"""The best weights of a training that is resumed in another place."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from irexp.training.callbacks import Best


def best(folder: Path) -> Best:
    """As a training makes it."""
    return Best(folder, filename="best", monitor="validation/nDCG@10", mode="max", save_weights_only=True)


def test_the_best_weights_are_known_after_the_folder_has_moved(tmp_path: Path) -> None:
    """A worse validation does not replace them, and they are looked for where they lie now."""
    path = str(tmp_path / "old" / "best.ckpt")
    killed = best(tmp_path / "old")
    killed.best_model_path = killed.kth_best_model_path = path
    killed.best_model_score = killed.kth_value = torch.tensor(0.8)
    killed.best_k_models = {path: torch.tensor(0.8)}
    resumed = best(tmp_path / "new")
    resumed.load_state_dict(killed.state_dict())
    moved = str(tmp_path / "new" / "best.ckpt")
    assert (resumed.best_model_path, resumed.kth_best_model_path, [*resumed.best_k_models]) == (moved, moved, [moved])
    trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
    assert not resumed.check_monitor_top_k(trainer, torch.tensor(0.5))
    assert resumed.check_monitor_top_k(trainer, torch.tensor(0.9))


def test_its_state_is_that_of_lightnings_class(tmp_path: Path) -> None:
    """So that a training which an earlier version began is resumed."""
    made = ModelCheckpoint(tmp_path, filename="best", monitor="validation/nDCG@10", mode="max", save_weights_only=True)
    assert best(tmp_path).state_key == made.state_key
