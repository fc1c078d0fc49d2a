"""A teacher's scores of pairs of query and document, and training examples that have them as targets."""

from __future__ import annotations

import hashlib
import logging
import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from irexp.dataset.collection import DataError, Examples, Mixture
from irexp.dataset.derived import DerivedExamples
from irexp.dataset.packed import first_place
from irexp.types import Example, ScoredDoc

log = logging.getLogger(__name__)


class PairScores:
    """The scores of a run by pair, in any order; 20 bytes per line stay in memory."""

    def __init__(self, lines: Iterable[ScoredDoc]) -> None:
        """Read all lines."""
        self._numbers: dict[str, int] = {}
        numbers, hashes, scores = array("i"), array("Q"), array("d")
        for query_id, doc_id, score in lines:
            numbers.append(self._numbers.setdefault(query_id, len(self._numbers)))
            hashes.append(_hash(doc_id))
            scores.append(score)
        number_N, hash_N = np.frombuffer(numbers, dtype=np.int32), np.frombuffer(hashes, dtype=np.uint64)
        order_N = np.lexsort((hash_N, number_N))
        self._hash_N, self._score_N = hash_N[order_N], np.frombuffer(scores, dtype=np.float64)[order_N]
        self._bounds = np.searchsorted(number_N[order_N], np.arange(len(self._numbers) + 1))

    def of(self, query_id: str, doc_ids: Sequence[str]) -> list[float | None]:
        """The score of each document for a query; None where there is none."""
        number = self._numbers.get(query_id)
        if number is None:
            return [None] * len(doc_ids)
        start, end = self._bounds[number : number + 2]
        hash_N, score_N = self._hash_N[start:end], self._score_N[start:end]
        found: list[float | None] = []
        for wanted in map(_hash, doc_ids):
            place = first_place(hash_N, wanted)
            is_there = place < len(hash_N) and int(hash_N[place]) == wanted
            found.append(float(score_N[place]) if is_there else None)
        return found


class ScoredExamples(DerivedExamples):
    """Examples whose targets are a teacher's scores; documents without a score are left out."""

    has_scores = True

    def __init__(self, examples: Examples, scores: PairScores) -> None:
        """Look every document up once, and log what is left out.

        Args:
            examples: the training examples; their own targets are not used.
            scores: the teacher's.

        Raises:
            DataError: if no example has a score of its positive and of a further document.
        """
        super().__init__(examples)
        self._scores = scores
        kept, dropped, single = array("q"), 0, 0
        for position in range(len(examples)):
            example = examples[position]
            found = scores.of(example.query.query_id, example.doc_ids)
            for doc_id, score in zip(example.doc_ids, found, strict=True):
                if score is not None and not math.isfinite(score):
                    raise DataError(
                        f"teacher.scores: the score of document {doc_id!r} for the query {example.query.query_id!r} is "
                        f"{score}, which teaches nothing; remove the line"
                    )
            if found[0] is None:
                dropped += 1
                continue
            kept.append(position)
            single += sum(score is not None for score in found) == 1
        if len(kept) == single:
            raise DataError(
                f"teacher.scores: none of the {len(examples):,} training examples has a score of its positive and of a "
                f"negative; score with stage=score on this collection, or set negatives=bm25 for negatives"
            )
        if dropped:
            log.warning(
                "%d of %d training examples have no teacher's score of their positive and are left out; score these "
                "pairs, too, with stage=score on this collection",
                dropped,
                len(examples),
            )
        if single:
            log.warning(
                "%d of %d training examples have no negative with a teacher's score and teach nothing of it; score "
                "these pairs, too, or take the negatives from the scored ones with "
                "negatives.candidates=<the file of the scores> and negatives.depth",
                single,
                len(examples),
            )
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, position: int) -> Example:
        example = self._examples[self._kept[position]]
        found = self._scores.of(example.query.query_id, example.doc_ids)
        scored = [(doc_id, score) for doc_id, score in zip(example.doc_ids, found, strict=True) if score is not None]
        return example._replace(doc_ids=tuple(d for d, _ in scored), targets=tuple(score for _, score in scored))

    def begins_with_positive(self, position: int) -> bool:
        """As in the examples."""
        return self._examples.begins_with_positive(self._kept[position])

    @property
    def mixture(self) -> Mixture | None:
        """That of the examples, with the number of those that are left of each set."""
        whole = self._examples.mixture
        if whole is None:
            return None
        bounds = np.searchsorted(np.frombuffer(self._kept, dtype=np.int64), np.cumsum([0, *whole.sizes]))
        return whole._replace(sizes=tuple(np.diff(bounds).tolist()))


def _hash(doc_id: str) -> int:
    """A number for an id, the same in every process; 64 bits tell the documents of one query apart."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")
