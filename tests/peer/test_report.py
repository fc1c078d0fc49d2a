"""Everything that a comparison measured is written, and its curves are those of its lines and points."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irexp.peer.report import curves, write
from tests.peer.test_lines import record


def test_everything_measured_is_written(tmp_path: Path) -> None:
    """The seconds of each round stand in the JSON, and the README keeps what stands around the table."""
    found, readme = record(), tmp_path / "README.md"
    readme.write_text("before\n<!-- speed_encode: generated -->\nold\n<!-- speed_encode: end -->\nafter\n")
    write(found, tmp_path)
    kept = json.loads((tmp_path / "speed_encode.json").read_text())
    assert kept["lines"][1]["cpu_seconds"] == [2.0, 4.0]
    assert kept["limits"]["sbert"][0] == {"fp32": 2.0, "bf16": 4.0, "read": 10.0}
    text = readme.read_text()
    assert "![by tokens per batch and per text](speed_encode.svg)" in text and (tmp_path / "speed_encode.svg").is_file()
    assert text.startswith("before\n") and text.endswith("<!-- speed_encode: end -->\nafter\n")
    assert found.table() in text and "old" not in text


def test_the_curves_are_over_the_tokens_of_a_batch_and_of_a_text() -> None:
    """A line with another precision is a point of neither."""
    batch, length = curves(record())
    assert batch.curves == {
        "irexp, by batch": [(512.0, 100.0)],
        "irexp": pytest.approx(100 / 1.5),
        "sentence-transformers": pytest.approx(100 / 3),
    }
    assert length.curves == {"irexp": [(16.0, 80.0)]}
