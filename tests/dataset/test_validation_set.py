"""Further sets of validation queries."""

from __future__ import annotations

from irexp.dataset.irds_part import IrdsPart
from irexp.dataset.validation_set import IrdsValidationSet


def test_a_collection_of_ir_datasets_lists_all_that_a_validation_reads() -> None:
    """What stage=prepare does not fetch would be missing on a machine without a network."""
    made = IrdsValidationSet("vaswani", remove_query=True)
    assert made.resources() == [IrdsPart("vaswani", part) for part in ("docs", "queries", "qrels")]
    assert made.topics.remove_query and made.topics.relevance is None
