"""A number is found in a sorted array without a copy of the array."""

from __future__ import annotations

import bisect
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from irexp import open_documents
from irexp.dataset.packed import first_place, hash_of
from tests.text_files import write


@pytest.mark.parametrize("kind", [np.uint64, np.int64, np.int32])
def test_the_first_place_is_that_of_bisect_and_nothing_is_copied(kind: type[np.integer]) -> None:
    """A Python integer made numpy copy the hashes of a million documents, a millisecond, for each one looked up."""
    most = int(np.iinfo(kind).max)
    sorted_N = np.array(sorted({*range(0, 2000, 2), 1000, most // 2, most - 1, most}), dtype=kind)
    whole = np.concatenate([np.zeros(200_000, kind), sorted_N])
    for number in (0, 1, 1000, 1001, most // 2, most // 2 + 1, most - 1, most):
        assert first_place(sorted_N, number) == bisect.bisect_left(sorted_N.tolist(), number)
        tracemalloc.start()
        first_place(whole, number)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < whole.nbytes / 20


def test_a_document_is_looked_up_without_a_copy_of_all_hashes(tmp_path: Path) -> None:
    """Of ids with small and with large hashes, which numpy takes for different types."""
    count = 20_000
    lines = (f'{{"_id": "d{number}", "text": "text {number}"}}\n' for number in range(count))
    documents = open_documents(write(tmp_path / "corpus.jsonl", "".join(lines)))
    wanted = [f"d{number}" for number in range(50)]
    assert {hash_of(doc_id) >= 2**63 for doc_id in wanted} == {True, False}
    documents.get_many(wanted)  # reads the file
    tracemalloc.start()
    found = documents.get_many(wanted)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [found[doc_id].text for doc_id in wanted] == [f"text {number}" for number in range(50)]
    assert peak < count * 8 / 2
