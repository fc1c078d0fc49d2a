"""Training examples with negatives from the head of a run: what a first stage finds and no judgement calls relevant."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from irexp.dataset.collection import DataError, Examples
from irexp.types import Example

log = logging.getLogger(__name__)


class RunNegatives(Examples):
    """Examples, each with all negatives that a run has for its query."""

    def __init__(self, examples: Examples, rankings: Mapping[str, Sequence[str]]) -> None:
        """Say how many examples get none.

        Args:
            examples: what is learned from; their own negatives stay.
            rankings: the document ids that may be negatives of each training query, by its id.

        Raises:
            DataError: if there is a negative for none of the queries, or if examples have a teacher's scores, on whose
                scale a negative without one has no place.
        """
        self._examples, self._rankings = examples, rankings
        for position in range(len(examples)):
            query, _, targets = examples[position]
            if targets != (1.0,) + (0.0,) * (len(targets) - 1):
                raise DataError(
                    f"the training example of {query.query_id} has a teacher's scores ({targets[0]:g} of its first "
                    f"document), and negatives of a run have none: negatives=none, or examples without scores"
                )
        without = sum(not self._negatives(examples[position]) for position in range(len(examples)))
        if without == len(examples):
            raise DataError("the run of negatives.candidates has no negative for any of the training queries")
        if without:
            log.warning("%d of %d training examples get no negative from the run", without, len(examples))

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, position: int) -> Example:
        example = self._examples[position]
        negatives = self._negatives(example)
        return Example(example.query, (*example.doc_ids, *negatives), (*example.targets, *[0.0] * len(negatives)))

    def doc_ids(self) -> set[str]:
        """Every document of every example and ranking."""
        return self._examples.doc_ids() | {doc_id for ranking in self._rankings.values() for doc_id in ranking}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents known to be relevant."""
        return self._examples.relevant_doc_ids(query_id)

    def _negatives(self, example: Example) -> list[str]:
        known = self.relevant_doc_ids(example.query.query_id) | set(example.doc_ids)
        return [doc_id for doc_id in self._rankings.get(example.query.query_id, ()) if doc_id not in known]
