"""The trainer of sentence-transformers, which PyLate uses, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import BatchSampler, SequentialSampler

from irexp.peer.training import CLIP_NORM, Training, make_optimizer


def train_with(
    training: Training,
    folder: Path,
    model: Any,
    loss: Any,
    classes: tuple[Any, Any],
    *,
    collator: Any = None,
    callbacks: list[Any] | None = None,
    router_mapping: dict[str, str] | None = None,
    prompts: dict[str, str] | None = None,
) -> float:
    """Train with a trainer of sentence-transformers, whose default is the fused optimizer.

    Args:
        training: the training.
        folder: of the trained model.
        model: the model.
        loss: its loss.
        classes: of the trainer and of its arguments.
        collator: tokenizes a batch; None for the trainer's own.
        callbacks: of the trainer.
        router_mapping: the side of each column; None for the trainer's own.
        prompts: of each column; None for none.

    Returns:
        The loss of the probe before the training.
    """
    trainer_class, settings_class = classes
    settings = settings_class(
        output_dir=str(folder.parent / "trainer"),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch_size,
        max_grad_norm=CLIP_NORM,
        seed=training.seed,
        use_cpu=training.device == "cpu",
        batch_sampler=_in_order,
        router_mapping=router_mapping,
        prompts=prompts,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = trainer_class(
        model=model,
        args=settings,
        train_dataset=_columns(training.pairs()),
        loss=loss,
        data_collator=collator,
        callbacks=callbacks,
        optimizers=make_optimizer(model.parameters(), training, fused=True),
    )
    model.eval()
    with torch.no_grad():
        batch = trainer._prepare_inputs(trainer.data_collator(list(_columns(training.probe()))))  # on its device
        found = loss(*trainer.collect_features(batch))
    trainer.train()
    model.save_pretrained(str(folder))
    return float(found["base_loss"] if isinstance(found, dict) else found)


def _columns(rows: list[dict[str, str]]) -> Any:
    return Dataset.from_dict({column: [row[column] for row in rows] for column in ("query", "document")})


def _in_order(dataset: Any, *, batch_size: int, **_: Any) -> BatchSampler:
    """Batches in the order of the data."""
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
