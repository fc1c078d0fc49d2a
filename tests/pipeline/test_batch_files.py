"""The run files of batches are those of one run, whoever writes them."""

from __future__ import annotations

from pathlib import Path

from irexp.evaluation.run_file import write_run
from irexp.pipeline.batch_files import batch_prefix, join_batches, own_batches, write_batch
from irexp.pipeline.machine import making_share
from irexp.types import ScoredDoc

#: Of three batches one has no result; ids look like ranks, and one has a space.
BATCHES = [
    [ScoredDoc("1", "1", 1.0), ScoredDoc("1", "2", 1.0), ScoredDoc("11", "1", -0.1)],
    [],
    [ScoredDoc("q 3", "1", 1e-9), ScoredDoc("q 3", "a 1", float("-inf"))],
]


def test_shares_are_disjoint_and_complete() -> None:
    """Each batch is of one share, also if there are more shares than batches."""
    for shares in (1, 2, 3, 5):
        found = []
        for number in range(shares):
            with making_share((number, shares)):
                found += list(own_batches("abcd"))
        assert sorted(found) == list("abcd")
    assert list(own_batches("abcd")) == list("abcd")
    with making_share((1, 3)):
        assert list(own_batches("abcdefg")) == ["b", "e"]


def test_joined_batches_are_the_bytes_of_one_run(tmp_path: Path) -> None:
    """Written in any order; queries with a document are counted."""
    prefixes = [batch_prefix(tmp_path / "work", [number]) for number in range(3)]
    for number in (2, 0, 1):
        write_batch(prefixes[number], BATCHES[number])
    assert join_batches(prefixes, tmp_path / "joined.run") == 3
    write_run(tmp_path / "one.run", [line for batch in BATCHES for line in batch], tag="irexp")
    assert (tmp_path / "joined.run").read_bytes() == (tmp_path / "one.run").read_bytes()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == sorted(f"{p.name}.run" for p in prefixes)


def test_other_batches_have_other_files(tmp_path: Path) -> None:
    """A batch of other queries is never read for one of these, as after a change of machine.query_batch."""
    names = {batch_prefix(tmp_path, ids) for ids in (["a", "b"], ["a"], ["b"], ["ab"], ["b", "a"])}
    assert len(names) == 5
