"""The order of the examples of several sets: a pure function of the seed and the batch's number.

Each set has an endless stream of its examples: a new permutation per pass. So within a pass no example is repeated or
left out, wherever a batch or an epoch begins.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import Mixture


class MixedOrder:
    """Which examples each batch has."""

    def __init__(self, mixture: Mixture, usable: NDArray[np.int64], *, size: int, seed: int) -> None:
        """Divide the usable examples among the sets.

        Args:
            mixture: the sets, and how they are mixed.
            usable: the positions of the examples that can be used, ascending.
            size: queries per batch.
            seed: decides every permutation.
        """
        bounds = np.searchsorted(usable, np.cumsum([0, *mixture.sizes]))
        parts = [usable[start:end] for start, end in itertools.pairwise(bounds)]
        kept = [place for place, part in enumerate(parts) if len(part)]
        self._parts, self._weights = [parts[place] for place in kept], [mixture.weights[place] for place in kept]
        self._mixing, self._size, self._seed = mixture.mixing, size, seed
        self._passes: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._epochs: dict[int, NDArray[np.int64]] = {}
        self._rounds: dict[int, NDArray[np.int64]] = {}

    @property
    def examples(self) -> int:
        """The number of examples per epoch, weights included; round_robin ends its epoch after as many."""
        return max(1, round(sum(self._shares())))

    def positions(self, number: int) -> list[int]:
        """The positions of a batch's examples."""
        if self._mixing == "proportional":
            first = number * self._size
            return [self._mixed(place) for place in range(first, first + self._size)]
        place, earlier = self._turn(number)
        return self._streamed(place, earlier * self._size, (earlier + 1) * self._size)

    def _shares(self) -> list[float]:
        """The examples of each set per epoch; with round_robin a weight is a number of batches, not a share."""
        if self._mixing == "round_robin":
            return [float(len(part)) for part in self._parts]
        return [len(part) * weight for part, weight in zip(self._parts, self._weights, strict=True)]

    def _streamed(self, place: int, start: int, end: int) -> list[int]:
        """A part of a set's stream."""
        found: list[int] = []
        size = len(self._parts[place])
        while start < end:
            number, first = divmod(start, size)
            found += self._pass(place, number)[first : first + end - start].tolist()
            start = min(end, (number + 1) * size)
        return found

    def _pass(self, place: int, number: int) -> NDArray[np.int64]:
        """All examples of a set, in the order of one pass."""
        if (place, number) not in self._passes:
            kept = {key: order for key, order in self._passes.items() if key[0] != place or key[1] == number - 1}
            order = np.random.default_rng([self._seed, number, place]).permutation(self._parts[place])
            self._passes = {**kept, (place, number): order}
        return self._passes[place, number]

    def _starts(self, epoch: int) -> list[int]:
        """Where each set's stream is at the beginning of an epoch."""
        return [math.floor(epoch * share) for share in self._shares()]

    def _mixed(self, place: int) -> int:
        """An example of the epochs, one after another, each a permutation of its part of every stream."""
        epoch = int(place / sum(self._shares()))
        while sum(self._starts(epoch)) > place:
            epoch -= 1
        while sum(self._starts(epoch + 1)) <= place:
            epoch += 1
        if epoch not in self._epochs:
            spans = zip(self._starts(epoch), self._starts(epoch + 1), strict=True)
            streamed = [position for n, span in enumerate(spans) for position in self._streamed(n, *span)]
            order = np.random.default_rng([self._seed, epoch]).permutation(np.array(streamed, dtype=np.int64))
            self._epochs = {**{known: o for known, o in self._epochs.items() if known == epoch - 1}, epoch: order}
        return int(self._epochs[epoch][place - sum(self._starts(epoch))])

    def _turn(self, number: int) -> tuple[int, int]:
        """The set of a batch, and how many batches of it came before."""
        if self._mixing == "round_robin":
            round_, within = divmod(number, len(self._turns))
            place = int(self._turns[within])
            return place, round_ * int(self._weights[place]) + int((self._turns[:within] == place).sum())
        epoch = int(number * self._size / sum(self._shares()))
        while epoch and sum(self._batches(epoch)) > number:
            epoch -= 1
        while sum(self._batches(epoch + 1)) <= number:
            epoch += 1
        before = self._batches(epoch)
        if epoch not in self._rounds:
            counts = [end - start for start, end in zip(before, self._batches(epoch + 1), strict=True)]
            order = np.repeat(np.arange(len(counts)), counts)
            self._rounds = {epoch: np.random.default_rng([self._seed, epoch]).permutation(order)}
        within = number - sum(before)
        place = int(self._rounds[epoch][within])
        return place, before[place] + int((self._rounds[epoch][:within] == place).sum())

    def _batches(self, epochs: int) -> list[int]:
        """The batches of each set in so many epochs; a set that does not fill one in an epoch skips some epochs."""
        return [math.ceil(epochs * share / self._size - 1e-9) for share in self._shares()]

    @cached_property
    def _turns(self) -> NDArray[np.int64]:
        """The set of each batch of a round, as often as its weight."""
        return np.repeat(np.arange(len(self._weights)), [int(weight) for weight in self._weights])
