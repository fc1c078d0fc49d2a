"""What every retrieval model is: something with a name that scores documents against a query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Model(nn.Module, ABC):
    """A bi-encoder or a cross-encoder.

    Attributes:
        name: what tables and folders call it.
        query_length: tokens of a query that are read.
        document_length: tokens of a document that are read.
        new_tokens: what the vocabulary was enlarged by, with vectors that must be trained.
    """

    name: str
    query_length: int
    document_length: int
    new_tokens: tuple[str, ...] = ()

    @abstractmethod
    def score(self, query: str | Sequence[str], documents: Sequence[str]) -> Tensor:
        """How well documents answer a query: score_N, or score_BN for several queries; outside of training."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
