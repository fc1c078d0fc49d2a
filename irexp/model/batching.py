"""Batches of equal cost rather than equal count, computed by as many threads as a processor has cores."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch

from irexp.index.parts import Parts
from irexp.index.vectors import Vectors
from irexp.model.device import budget_of
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.model import Model

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class TokenBudget:
    """The number of tokens per batch, padding included; halved for good whenever a GPU runs out of memory.

    Attributes:
        tokens: the current number.
        workers: the number of batches that are computed at the same time, each by a single-threaded worker. On a
            processor this is faster than one batch in several threads, which wait for one another in each operation.
    """

    def __init__(self, tokens: int, *, workers: int = 1) -> None:
        """Start with this many tokens."""
        self.tokens, self.workers = tokens, workers

    @classmethod
    def of(
        cls, model: Model, device: torch.device, tokens: int | None = None, *, workers: int | None = None
    ) -> TokenBudget:
        """The budget for a model on a device.

        Args:
            model: what computes the batches.
            device: where batches are computed; only a processor computes several at the same time.
            tokens: tokens per batch, padding included; None for what suits the device and the model's width.
            workers: threads of a processor; None for torch's number of threads.
        """
        threads = (workers or torch.get_num_threads()) if device.type == "cpu" else 1
        return cls(tokens or budget_of(device, model.width), workers=threads)

    def map_batches(
        self, lengths: Sequence[int], work: Callable[[list[int]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        """Call a function on each batch of texts.

        Args:
            lengths: tokens per text.
            work: called with the positions of a batch's texts.

        Yields:
            The positions of a batch, and the result of the call.
        """
        batches = token_budget_batches(lengths, self.tokens)
        if self.workers > 1:  # also for a single batch, whose last bits depend on the number of threads
            yield from zip(batches, _in_threads(work, batches, self.workers), strict=True)
            return
        waiting = deque(batches)
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

    def resume_batches(
        self, lengths: Sequence[int], work: Callable[[list[int]], Vectors], parts: Parts
    ) -> Iterator[tuple[list[int], Vectors]]:
        """Call a function on each batch of the texts whose results are not in `parts`, and yield these as well."""
        done: set[int] = set()
        for rows, vectors in parts.saved():
            done.update(rows)
            yield rows, vectors
        rest = [position for position in range(len(lengths)) if position not in done]
        batches = self.map_batches([lengths[p] for p in rest], lambda batch: work([rest[place] for place in batch]))
        for batch, vectors in batches:
            rows = [rest[place] for place in batch]
            parts.add(rows, vectors)
            yield rows, vectors

    def _attempt(self, work: Callable[[list[int]], Result], batch: list[int], *, longest: int) -> list[Result]:
        """The result of a batch; if memory runs out, an empty list, and the budget is halved."""
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


def _in_threads(work: Callable[[list[int]], Result], batches: Sequence[list[int]], workers: int) -> Iterator[Result]:
    """The results of batches in order; each worker computes with one thread of torch, and without gradients."""

    def compute(batch: list[int]) -> Result:
        with torch.inference_mode():  # which is a state of each thread
            return work(batch)

    stream, threads = iter(batches), torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1))
    try:
        running: deque[Future[Result]] = deque(pool.submit(compute, batch) for batch in islice(stream, workers + 1))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(compute, batch) for batch in islice(stream, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's number is also that of threads which start later


def token_budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions sorted by length and cut into batches whose padded size fits a budget.

    Sorting makes padding rare, and the budget keeps all batches the same size.

    Args:
        lengths: tokens per text.
        budget: tokens per batch, padding included; a longer text gets a batch of its own.
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[position] * (len(batch) + 1) > budget:
            batches.append(batch)
            batch = []
        batch.append(position)
    return [*batches, batch] if batch else batches
