"""A teacher's scores of pairs of query and document, and training examples that have them as targets."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from irexp.dataset.collection import DataError, Examples
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
            place = int(np.searchsorted(hash_N, np.uint64(wanted)))
            is_there = place < len(hash_N) and int(hash_N[place]) == wanted
            found.append(float(score_N[place]) if is_there else None)
        return found


class ScoredExamples(Examples):
    """Examples whose targets are a teacher's scores; documents without a score are left out."""

    has_scores: ClassVar[bool | None] = True

    def __init__(self, examples: Examples, scores: PairScores) -> None:
        """Look every document up once, and log what is left out.

        Args:
            examples: the training examples; their own targets are not used.
            scores: the teacher's.

        Raises:
            DataError: if no example has a score of its positive and of a further document.
        """
        self._examples, self._scores = examples, scores
        kept, dropped, single = array("q"), 0, 0
        for position in range(len(examples)):
            query, doc_ids, _ = examples[position]
            found = scores.of(query.query_id, doc_ids)
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
            log.warning("%d of %d training examples have no teacher's score of their positive", dropped, len(examples))
        if single:
            log.warning("%d of %d training examples have no negative with a teacher's score", single, len(examples))
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, position: int) -> Example:
        query, doc_ids, _ = self._examples[self._kept[position]]
        pairs = zip(doc_ids, self._scores.of(query.query_id, doc_ids), strict=True)
        scored = [(doc_id, score) for doc_id, score in pairs if score is not None]
        return Example(query, tuple(doc_id for doc_id, _ in scored), tuple(score for _, score in scored))

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples, with or without scores."""
        return self._examples.doc_ids()

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents known to be relevant to a query, according to the examples."""
        return self._examples.relevant_doc_ids(query_id)


def _hash(doc_id: str) -> int:
    """A number for an id, the same in every process; 64 bits tell the documents of one query apart."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")
