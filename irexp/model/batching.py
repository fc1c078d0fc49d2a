"""Batches of equal cost rather than equal count, several at the same time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from itertools import count, islice
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

CPU = torch.device("cpu")

#: Batches in progress on a GPU at the same time.
_STREAMS = 2


class TokenBudget:
    """The number of tokens per batch, padding included; halved for good whenever a GPU runs out of memory.

    Attributes:
        tokens: the current number.
        workers: the number of batches in progress at the same time, each in a thread. On a processor each is computed
            by one thread of torch: this is faster than one batch in several threads, which wait for one another in each
            operation. On a GPU each has a stream of its own: one is padded and copied while another is computed.
    """

    def __init__(self, tokens: int, *, workers: int = 1, device: torch.device = CPU) -> None:
        """Start with this many tokens."""
        self.tokens, self.workers, self._device = tokens, workers, device

    @classmethod
    def of(
        cls, model: Model, device: torch.device, tokens: int | None = None, *, workers: int | None = None
    ) -> TokenBudget:
        """The budget for a model on a device.

        Args:
            model: what computes the batches.
            device: where batches are computed.
            tokens: tokens per batch, padding included; None for what suits the device and the model's width.
            workers: threads of a processor; None for torch's number of threads.
        """
        threads = {"cpu": workers or torch.get_num_threads(), "cuda": _STREAMS}.get(device.type, 1)
        return cls(tokens or budget_of(device, model.width), workers=threads, device=device)

    def map_batches(
        self, lengths: Sequence[int], work: Callable[[list[int]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        """Call a function on each batch of texts.

        Args:
            lengths: tokens per text.
            work: called with the positions of a batch's texts, in a thread if there are several workers; what it
                returns must not depend on work that a GPU has not finished.

        Yields:
            The positions of a batch, and the result of the call.
        """
        batches = token_budget_batches(lengths, self.tokens)
        while batches:
            done = 0
            try:
                for batch, result in zip(batches, self._results(work, batches), strict=True):
                    yield batch, result
                    done += 1
                return
            except torch.OutOfMemoryError as error:
                self._lower(batches[done], longest=lengths[batches[done][-1]], error=error)
            torch.cuda.empty_cache()  # after the error, whose traceback holds tensors
            rest = [position for positions in batches[done:] for position in positions]
            smaller = token_budget_batches([lengths[position] for position in rest], self.tokens)
            batches = [[rest[place] for place in places] for places in smaller]

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

    def _results(self, work: Callable[[list[int]], Result], batches: Sequence[list[int]]) -> Iterator[Result]:
        if self.workers == 1:
            return map(work, batches)
        return _in_threads(work, batches, self.workers, self._device)  # also one batch: its last bits depend on threads

    def _lower(self, batch: list[int], *, longest: int, error: Exception) -> None:
        """Halve the budget after a batch that was too large; a single text is first tried without others beside it."""
        if len(batch) > 1:
            self.tokens = max(1, len(batch) * longest // 2)
            log.warning(
                "the GPU's memory is too small for machine.token_budget; continuing with %d tokens", self.tokens
            )
        elif self.workers > 1:
            self.workers = 1
        else:
            raise UserError(
                f"the GPU's memory is too small for a single text of {longest} tokens; lower dataset.document_length, "
                f"or use machine=cpu"
            ) from error


def _in_threads(
    work: Callable[[list[int]], Result], batches: Sequence[list[int]], workers: int, device: torch.device
) -> Iterator[Result]:
    """The results of batches in order; each worker computes without gradients, on a GPU in a stream of its own."""
    is_cast, dtype = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)

    def compute(batch: list[int]) -> Result:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=is_cast):  # states of each thread
            return work(batch)

    stream, threads = iter(batches), torch.get_num_threads()
    start = partial(torch.set_num_threads, 1)
    if device.type == "cuda":
        start = partial(_use_own_stream, torch.cuda.current_stream(device), count())
    pool = ThreadPoolExecutor(workers, initializer=start)
    try:
        running: deque[Future[Result]] = deque(pool.submit(compute, batch) for batch in islice(stream, workers + 1))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(compute, batch) for batch in islice(stream, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's number is also that of threads which start later


def _use_own_stream(before: torch.cuda.Stream, numbers: Iterator[int]) -> None:
    """Let this thread queue its work on a GPU in a stream of its own, after what was queued before, as the weights."""
    torch.cuda.set_device(before.device)
    stream = _stream(before.device, next(numbers))
    stream.wait_stream(before)
    torch.cuda.set_stream(stream)


@cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """The n-th stream of a GPU, always the same: torch keeps the memory that a stream has freed for that stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


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
