"""Negatives from a run."""

from __future__ import annotations

import pytest

from irexp.dataset.collection import DataError, Examples
from irexp.dataset.negatives import RunNegatives
from irexp.types import Example, Query


class Two(Examples):
    """Two queries; the first has two relevant documents and a negative of its own."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, position: int) -> Example:
        return [
            Example(Query("q0", "zero"), ("d0", "d5"), (1.0, 0.0)),
            Example(Query("q1", "one"), ("d2",), (1.0,)),
        ][position]

    def doc_ids(self) -> set[str]:
        """The documents of both examples."""
        return {"d0", "d2", "d5"}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The positives, and one relevant document more."""
        return frozenset({"q0": ["d0", "d1"], "q1": ["d2"]}[query_id])


def test_relevant_documents_and_those_of_the_example_do_not_become_negatives() -> None:
    """A relevant document would be a false negative; the example's own would be there twice."""
    made = RunNegatives(Two(), {"q0": ["d1", "d3", "d0", "d5", "d4"], "q1": ["d9"]})
    assert made[0] == Example(Query("q0", "zero"), ("d0", "d5", "d3", "d4"), (1.0, 0.0, 0.0, 0.0))
    assert made[1].doc_ids == ("d2", "d9")
    assert len(made) == 2
    assert made.doc_ids() == {"d0", "d1", "d2", "d3", "d4", "d5", "d9"}


def test_queries_without_negatives_are_logged_and_an_error_if_all_are(caplog: pytest.LogCaptureFixture) -> None:
    """A run of other queries must not silently give no negatives."""
    with caplog.at_level("WARNING"):
        RunNegatives(Two(), {"q1": ["d9"]})
    assert "1 of 2 training examples get no negative from the run" in caplog.text
    with pytest.raises(DataError, match=r"the run of negatives\.candidates has no negative"):
        RunNegatives(Two(), {"q7": ["d9"]})


def test_teacher_scores_and_negatives_from_a_run_are_an_error() -> None:
    """A negative with target 0 would rank above a positive that the teacher scored -1.5."""

    class Scored(Two):
        """The same examples with a teacher's scores."""

        def __getitem__(self, position: int) -> Example:
            example = super().__getitem__(position)
            return example._replace(targets=(-1.5, -6.0)[: len(example.doc_ids)])

    class Graded(Scored):
        """The same examples with grades."""

        has_scores = False

    assert RunNegatives(Graded(), {"q0": ["d3"]})[0].targets == (-1.5, -6.0, 0.0)
    with pytest.raises(DataError, match=r"example of q0 has a teacher's scores \(-1.5 .* negatives=none"):
        RunNegatives(Scored(), {"q0": ["d3"], "q1": ["d9"]})
