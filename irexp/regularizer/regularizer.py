"""The interface of regularizers: embeddings in, a scalar out; with weights for queries and documents, and a ramp.

    R(step) = r(step) (w_q R(queries) + w_d R(documents))    r(step) = min(1, step / T)^2

The quadratic ramp lets a model learn to rank before it must be sparse (SPLADE, arXiv:2107.05720, section 3.2).

Shapes: B texts, V vocabulary entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from irexp.types import UserError

#: The mean over texts, the first dimension; over the texts of all processes if several share a batch.
Mean = Callable[[Tensor], Tensor]


def own_mean(value_B: Tensor) -> Tensor:
    """The mean over the texts of this process, which may have further dimensions."""
    return value_B.mean(dim=0)


class Regularizer(nn.Module, ABC):
    """A penalty on the embeddings of queries and documents."""

    def __init__(self, *, query_weight: float, document_weight: float, ramp: float = 0.0) -> None:
        """A penalty without parameters.

        Args:
            query_weight: of the queries' penalty.
            document_weight: of the documents' penalty.
            ramp: when the weights reach their full value: up to 1 a fraction of all training steps, above 1 a number of
                steps; 0 for immediately.
        """
        super().__init__()
        for name, value in (("query_weight", query_weight), ("document_weight", document_weight), ("ramp", ramp)):
            if not value >= 0:
                raise UserError(f"regularizer.{name}={value}: it must be at least 0")
        self.query_weight, self.document_weight, self.ramp = query_weight, document_weight, ramp

    @abstractmethod
    def penalty(self, vector_BV: Tensor, mean: Mean) -> Tensor:
        """The penalty of queries or documents; `mean` averages over texts."""

    def forward(self, query_BV: Tensor, document_BV: Tensor, *, step: int, steps: int, mean: Mean = own_mean) -> Tensor:
        """The weighted penalty of queries and documents at a step of `steps`."""
        rising = self.ramp * steps if self.ramp <= 1 else self.ramp
        factor = min(1.0, step / rising) ** 2 if rising else 1.0
        query, document = self.penalty(query_BV.float(), mean), self.penalty(document_BV.float(), mean)
        return factor * (self.query_weight * query + self.document_weight * document)
