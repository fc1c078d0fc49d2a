"""The interface of the losses: scores and targets in, a scalar out. A loss never sees a model.

Shapes: B queries, N documents: those of the whole batch where `in_batch` is set, else those of the query itself.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn


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
