"""The interface of the losses: scores and targets in, a scalar out. A loss never sees a model.

Shapes: B queries, N documents: those of the whole batch where `in_batch` is set, else those of the query itself.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from irexp.types import UserError


class Loss(nn.Module, ABC):
    """A training objective.

    Attributes:
        in_batch: whether a query is compared with every document of the batch (over all devices) or with its own only.
    """

    in_batch: bool

    @abstractmethod
    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            score_BN: the model's scores.
            target_BN: relevance or a teacher's score; NaN leaves a document out, because it is known to be relevant
                but is not the one this example is about, or because it is padding.
        """

    def terms(self, target_BN: Tensor) -> Tensor:
        """How many terms the loss is the mean of: the queries, if a subclass does not say otherwise.

        The losses of several processes are weighed by it.
        """
        return target_BN.new_tensor(len(target_BN))


def check_negatives(target_BN: Tensor) -> Tensor:
    """Which documents count, is_present_BN.

    Raises:
        UserError: if no query has a document beside its positive, so that there is nothing to learn.
    """
    is_present_BN = ~target_BN.isnan()
    if int(is_present_BN.sum()) <= len(target_BN):
        raise UserError(
            "no query of the batch has a negative: use training.batch_size > 1 with in-batch negatives, negatives of "
            "a run (negatives=bm25), or examples with negatives"
        )
    return is_present_BN


def check_temperature(temperature: float) -> float:
    """A temperature divides scores."""
    if temperature <= 0:
        raise UserError(f"loss.temperature={temperature}: it divides scores and must be above 0")
    return temperature
