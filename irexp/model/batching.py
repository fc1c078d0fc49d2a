"""Batches of equal cost rather than equal count."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from irexp.types import UserError

log = logging.getLogger(__name__)

#: Tokens that the conveniences read at once.
BUDGET = 8192

Result = TypeVar("Result")


class TokenBudget:
    """Tokens that are read at once, padding included: halved for good where a GPU's memory does not hold them.

    Attributes:
        tokens: how many at present.
    """

    def __init__(self, tokens: int = BUDGET) -> None:
        """As many as are tried first."""
        self.tokens = tokens

    def over(self, lengths: Sequence[int], work: Callable[[list[int]], Result]) -> Iterator[tuple[list[int], Result]]:
        """Do some work for each batch of texts.

        Args:
            lengths: tokens of each text.
            work: what is done for the texts at some positions.

        Yields:
            The positions of a batch, and what the work returned.
        """
        waiting = deque(token_budget_batches(lengths, self.tokens))
        while waiting:
            batch = waiting[0]
            results = self._attempt(work, batch, longest=lengths[batch[-1]])
            if results:
                waiting.popleft()
                yield batch, results[0]
            else:
                rest = [position for positions in waiting for position in positions]
                smaller = token_budget_batches([lengths[position] for position in rest], self.tokens)
                waiting = deque([rest[place] for place in places] for places in smaller)

    def _attempt(self, work: Callable[[list[int]], Result], batch: list[int], *, longest: int) -> list[Result]:
        """The result of a batch, or nothing and half the budget."""
        try:
            return [work(batch)]
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise UserError(
                    f"the GPU's memory is too small for a single text of {longest} tokens; lower "
                    f"dataset.document_length, or use machine=cpu"
                ) from error
        self.tokens = max(1, len(batch) * longest // 2)
        log.warning("the GPU's memory is too small for machine.token_budget; continuing with %d tokens", self.tokens)
        torch.cuda.empty_cache()
        return []


def token_budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions sorted by length and cut into batches whose padded size fits a budget.

    Sorting makes padding rare and the budget keeps every batch equally large, which is 1.3 times as fast as batches
    of 32 sorted texts on a processor, and twice as fast as batches in the order of the file.

    Args:
        lengths: tokens of each text.
        budget: tokens of a batch, padding included; a longer text is a batch of its own.
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[position] * (len(batch) + 1) > budget:
            batches.append(batch)
            batch = []
        batch.append(position)
    return [*batches, batch] if batch else batches
