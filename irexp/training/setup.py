"""What decides a training, apart from the model and the folder it resumes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from irexp.config.schema import FalseNegatives, Machine, Training
from irexp.dataset.collection import Documents, Examples, Topics
from irexp.dataset.draw import Draw
from irexp.dataset.validation_set import ValidationSet
from irexp.loss.loss import Loss
from irexp.model.model import Model
from irexp.regularizer.regularizer import Regularizer
from irexp.study.trial import RunningTrial


@dataclass(frozen=True)
class TrainingSetup:
    """A training.

    Attributes:
        loss: what is minimised.
        examples: the training examples.
        documents: the collection of the examples and of the validation.
        dev: the queries to validate on; None without validation.
        training: steps, batch size and the like.
        machine: where it runs.
        optimizer: a function from parameters to an optimizer.
        schedule: a function from the step to a factor of the learning rate.
        seed: decides batches and dropout.
        regularizer: of the embeddings; None for none.
        negatives: which negatives of an example are used at each step.
        logger: a Lightning logger; None for none.
        trial: the trial of a sweep that may prune this training; None for none.
        false_negatives: which documents are left out as negatives.
        guide: the frozen model whose scores decide that; None for the trained model's own.
        validation: further sets of queries to validate on, by name.
    """

    loss: Loss
    examples: Examples
    documents: Documents
    dev: Topics | None
    training: Training
    machine: Machine
    optimizer: Callable[..., Optimizer]
    schedule: Callable[..., float]
    seed: int
    regularizer: Regularizer | None = None
    negatives: Draw = field(default_factory=Draw)
    logger: Any = None
    trial: RunningTrial | None = None
    false_negatives: FalseNegatives = field(default_factory=FalseNegatives)
    guide: Model | None = None
    validation: Mapping[str, ValidationSet] = field(default_factory=dict)
