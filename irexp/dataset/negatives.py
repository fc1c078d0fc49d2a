"""Training examples with negatives from a run: documents that a first stage found and no judgement calls relevant."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from irexp.dataset.collection import DataError, Examples, is_labelled
from irexp.dataset.derived import DerivedExamples
from irexp.types import Example

log = logging.getLogger(__name__)


class RunNegatives(DerivedExamples):
    """Examples, each extended by all negatives that a run has for its query."""

    def __init__(self, examples: Examples, rankings: Mapping[str, Sequence[str]]) -> None:
        """Check the examples, and log how many get no negatives.

        Args:
            examples: the training examples; they keep their own negatives.
            rankings: query id → ids of the documents that may be its negatives.

        Raises:
            DataError: if no query gets a negative, or if examples have a teacher's scores, which negatives from a run
                lack.
        """
        super().__init__(examples)
        self._rankings = rankings
        for position in range(len(examples)):
            example = examples[position]
            if examples.has_scores is not False and not is_labelled(example):
                raise DataError(
                    f"the training example of {example.query.query_id} has a teacher's scores "
                    f"({example.targets[0]:g} for its first "
                    f"document), and negatives from a run have none: use negatives=none, or examples without scores"
                )
        without = sum(not self._negatives(examples[position]) for position in range(len(examples)))
        if without == len(examples):
            raise DataError("the run of negatives.candidates has no negative for any of the training queries")
        if without:
            log.warning("%d of %d training examples get no negative from the run", without, len(examples))

    def __getitem__(self, position: int) -> Example:
        example = self._examples[position]
        negatives = self._negatives(example)
        targets = (*example.targets, *[0.0] * len(negatives))
        return example._replace(doc_ids=(*example.doc_ids, *negatives), targets=targets)

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples and rankings."""
        return super().doc_ids() | {doc_id for ranking in self._rankings.values() for doc_id in ranking}

    def _negatives(self, example: Example) -> list[str]:
        known = self.relevant_doc_ids(example.query.query_id) | set(example.doc_ids)
        return [doc_id for doc_id in self._rankings.get(example.query.query_id, ()) if doc_id not in known]
