"""Which negatives of an example a training step uses: a pure function of the seed, the batch's number and the row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import is_labelled
from irexp.types import Example, UserError

#: How negatives are drawn; also those of Lightning IR (Schlatt et al. 2025), which draws from whole lists.
Sampler = Literal["random", "top", "log_random", "single_relevant", "top_and_random"]


@dataclass(frozen=True)
class Draw:
    """How many documents of an example are drawn, and which; they keep their order.

    An example's first document is kept if it is the positive. If nothing is known of it (`is_positive_first` is
    False), one document more is drawn from the whole list. Ranks are places in the example, the best one first.

    Attributes:
        count: negatives per example; None for all.
        sampler: random: each negative is equally likely. top: the first ones. log_random: the probability of rank r is
            proportional to 1 / ln(1 + r). single_relevant: one relevant document at random, which comes first, and
            negatives at random that are not relevant. top_and_random: one half (rounded up) are the first ones, the
            other half is random among the rest.
        skip: the first ranks that are never drawn, since they may be unlabelled positives.
    """

    count: int | None = None
    sampler: Sampler = "random"
    skip: int = 0

    def __call__(
        self, example: Example, key: Sequence[int], *, is_positive_first: bool, relevant: Collection[str]
    ) -> Example:
        """The example with the drawn documents only.

        Args:
            example: with all its documents.
            key: the seed of this draw.
            is_positive_first: whether the first document is relevant.
            relevant: the ids of the query's relevant documents.
        """
        fixed = int(is_positive_first)
        candidate_N = np.arange(fixed + self.skip, len(example.doc_ids))
        kept = list(range(fixed))
        wanted = None if self.count is None else self.count + 1 - fixed
        generator = np.random.default_rng(key)
        if self.sampler == "single_relevant":
            relevant_N = [n for n, doc_id in enumerate(example.doc_ids) if n < fixed or doc_id in relevant]
            if relevant_N:
                kept, wanted = [int(generator.choice(relevant_N))], self.count
                candidate_N = np.setdiff1d(candidate_N, relevant_N)
        if wanted is not None and wanted < len(candidate_N):
            candidate_N = self._chosen(candidate_N, wanted, generator, first=fixed)
        kept += candidate_N.tolist()
        if kept == list(range(len(example.doc_ids))):
            return example
        targets = tuple(example.targets[n] for n in kept)
        if is_positive_first and is_labelled(example):  # the first one is the positive, also if another one was drawn
            targets = (1.0,) + (0.0,) * (len(kept) - 1)
        return example._replace(doc_ids=tuple(example.doc_ids[n] for n in kept), targets=targets)

    def _chosen(
        self, candidate_N: NDArray[np.int64], wanted: int, generator: np.random.Generator, *, first: int
    ) -> NDArray[np.int64]:
        """The places of `wanted` of the candidates, in order; the place `first` has rank 1."""
        if self.sampler == "top":
            return candidate_N[:wanted]
        if self.sampler == "top_and_random":
            top = -(-wanted // 2)
            others = generator.choice(candidate_N[top:], size=wanted - top, replace=False)
            return np.concatenate([candidate_N[:top], np.sort(others)])
        weight_N = None
        if self.sampler == "log_random":
            weight_N = 1 / np.log1p(candidate_N - first + 1)
            weight_N /= weight_N.sum()
        return np.sort(generator.choice(candidate_N, size=wanted, replace=False, p=weight_N))


def check_skip(skip: int, examples: Sequence[Example]) -> None:
    """Check that a skip leaves something to learn from.

    Args:
        skip: the first ranks that are never drawn.
        examples: some of the examples.

    Raises:
        UserError: if none of the examples has more negatives than are skipped.
    """
    longest = max(len(example.doc_ids) for example in examples) - 1
    if skip and longest <= skip:
        raise UserError(
            f"negatives.skip={skip} leaves no negatives: the first {len(examples)} training examples have at most "
            f"{longest}; skip fewer, or set negatives.skip=null"
        )
