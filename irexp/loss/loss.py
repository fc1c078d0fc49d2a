"""The interface of losses: scores and targets in, a scalar out. A loss never sees a model.

Shapes: B queries, N documents (of the whole batch if `in_batch` is set, else of each query's own list).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from irexp.types import UserError


class Loss(nn.Module, ABC):
    """A training objective.

    Attributes:
        in_batch: whether a query is scored against all documents of the batch (on all devices) or only its own.
        needs_scores: whether its targets must be a teacher's scores; else relevance, 1 and 0, will do, too.
        needs_grades: whether its targets must be grades, at least 0, unless its `max_grade` makes them of scores.
        takes_scores_in_batch: whether a query's own documents keep a teacher's scores among those of the batch, whose
            target is minus infinity; else the targets are 1 for the positive and 0 for the others.
        compares_queries: whether a document is also compared with the queries of the batch (on all devices).
        compares_viewers: whether the scores are those of a query with each vector of its positive document.
        leaves_out_relevant: whether documents known to be relevant are left out where their target is not the largest.
    """

    in_batch: bool
    needs_scores: ClassVar[bool] = False
    needs_grades: ClassVar[bool] = False
    takes_scores_in_batch: ClassVar[bool] = False
    compares_queries: ClassVar[bool] = False
    compares_viewers: ClassVar[bool] = False
    leaves_out_relevant: bool = False

    @abstractmethod
    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            score_BN: the model's scores.
            target_BN: relevance or a teacher's score; NaN leaves a document out, because it is padding, or known to be
                relevant without being this example's positive. Without any negative the loss and its gradient are 0.
        """

    def parts(self) -> list[Part]:
        """The losses that it is a sum of: itself, unless a subclass adds several."""
        return [Part("loss", 1.0, self)]

    def terms(self, target_BN: Tensor) -> Tensor:
        """The number of terms that the loss averages: the queries, unless a subclass overrides it.

        Losses of several processes are weighted by it.
        """
        return target_BN.new_tensor(len(target_BN))


class Part(NamedTuple):
    """A loss of a weighted sum, with its name in logs."""

    name: str
    weight: float
    loss: Loss


def check_temperature(temperature: float) -> float:
    """The temperature, if it is above 0.

    Raises:
        UserError: if it is not.
    """
    if not temperature > 0:
        raise UserError(f"loss.temperature={temperature}: it divides scores and must be above 0")
    return temperature
