"""What trainings share in all libraries: settings, data, optimizer and schedule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

#: The fewest steps of a training that can be timed: between the ends of the second and the third one.
FEWEST_STEPS = 3

#: The largest norm of a gradient.
CLIP_NORM = 1.0

#: How much of a matrix AdamW removes per step, relative to the learning rate.
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Training:
    """A training.

    Attributes:
        model: sbert, colbert or splade.
        initial: the folder of the untrained model, as irexp saves it.
        data: the folder of pairs.jsonl and probe.jsonl: objects with query_id, query, doc_id and document; and of the
            same examples in BEIR's layout, from which irexp draws its batches itself.
        steps: optimizer steps; pairs.jsonl holds the batch of each, one after another.
        batch_size: pairs per step.
        learning_rate: its peak.
        warm_up: steps in which the learning rate rises linearly; then it falls linearly to zero.
        temperature: divides the scores in the loss.
        query_weight: of the FLOPS penalty on queries; 0 for no penalty.
        document_weight: of that on documents.
        ramp: the fraction of the steps in which both weights rise quadratically.
        query_length: tokens kept per query.
        document_length: tokens kept per document.
        seed: decides dropout, and in irexp the batches.
        threads: 1 for one thread; None for all cores.
        device: cpu or cuda.
        settings: of irexp alone: what differs in conf/training, conf/machine and conf/optimizer, by group.
    """

    model: str
    initial: str
    data: str
    steps: int
    batch_size: int
    learning_rate: float
    warm_up: int
    temperature: float
    query_weight: float
    document_weight: float
    ramp: float
    query_length: int
    document_length: int
    seed: int
    threads: int | None
    device: str
    settings: dict[str, dict[str, Any]]

    def pairs(self) -> list[dict[str, str]]:
        """The examples of all batches, in order."""
        return _rows(Path(self.data) / "pairs.jsonl")

    def probe(self) -> list[dict[str, str]]:
        """A few examples without a known positive among the negatives."""
        return _rows(Path(self.data) / "probe.jsonl")


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def factor(step: int, *, steps: int, warm_up: int) -> float:
    """The factor of the learning rate at a step, from 0."""
    return (step + 1) / warm_up if step < warm_up else max(0.0, (steps - step) / max(1, steps - warm_up))


def make_optimizer(
    parameters: Iterable[nn.Parameter], training: Training, *, fused: bool | None
) -> tuple[AdamW, LambdaLR]:
    """AdamW, which decays matrices alone, and the schedule, as irexp has them by default.

    Args:
        parameters: of the model.
        training: the training.
        fused: whether one kernel updates all weights; None for torch's choice.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    made = AdamW(groups, lr=training.learning_rate, fused=fused)
    return made, LambdaLR(made, lambda step: factor(step, steps=training.steps, warm_up=training.warm_up))
