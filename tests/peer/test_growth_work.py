"""Each stage of the measurement of growth runs over what the stages before it made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from irexp import component, new_model, save
from irexp.evaluation.run_file import read_run
from irexp.peer.growth_work import HEAD, STAGES, grow, write_inputs
from tests import tiny


def test_the_stages_run_in_their_order_and_again(tmp_path: Path) -> None:
    """A second run of encode and index replaces the first; the search finds as many results as were given."""
    folder = tmp_path / "data"
    write_inputs(folder, ["list", "stop", "bucket"], documents=30, queries=2)
    save(new_model("sbert", backbone=str(tiny.bert(tmp_path / "bert"))), folder / "model")
    machine = asdict(component("machine", "cpu", threads=1, progress=False, shard_size=8))
    for stage in ("encode", "index", *STAGES):
        found = grow({"stage": stage, "folder": str(folder), "machine": machine})
        assert found["wall_seconds"] > 0 and found["more_mib"] >= 0
    runs = [[line.doc_id for line in read_run(folder / f"{name}.run")] for name in ("given", "found")]
    assert len(runs[0]) == len(runs[1]) == 2 * 30
    assert sorted(runs[0]) == sorted(runs[1])
    assert HEAD < 30
