"""The record of a comparison: its table follows from the seconds, and replaces its own part of a README."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irexp.peer.limits import Limits, measure_limits
from irexp.peer.lines import Line, Load, Point, Record, write_section


def record() -> Record:
    """Two rounds of irexp, a library, and two other settings of irexp."""
    found = Record("encode", {"processor": "a processor"}, ["PyLate, since stage.peers.python.pylate is not set"])
    found.loads["sbert"] = Load(items=100, tokens=1000, operations=2_000_000)
    found.limits["sbert"] = [Limits(2.0, 4.0, 10.0), Limits(2.0, 4.0, 10.0)]
    found.lines = [
        Line("sbert", "irexp", [], "float32", 0.0, 500, [1.0, 2.0], [1.0, 1.0]),
        Line("sbert", "sentence-transformers", [], "float32", 1e-6, 700, [2.0, 4.0], [3.0, 3.0], {"torch": "2"}),
        Line("sbert", "irexp, small", ["machine.token_budget=512"], "float32", 0.0, 500, [1.0, 1.0], [0.5, 0.5]),
        Line("sbert", "irexp, bf16", ["encoding.precision=bfloat16"], "bfloat16", 0.01, 500, [0.5, 0.5], [1.0, 1.0]),
        Line("sbert", "irexp, int8", ["encoding.precision=int8"], "int8", 0.1, 500, [0.5, 0.5], [1.0, 1.0]),
    ]
    found.points = [Point("sbert", "irexp", 16.0, 10, [2.0, 2.0])]
    return found


def test_the_table_compares_each_line_with_irexps_in_the_same_rounds() -> None:
    """100 texts in 3 s; twice irexp's time in each round; 2e9 operations in 3 s of a processor that does 2e9 per s."""
    rows = record().table().splitlines()
    (row,) = [row for row in rows if row.startswith("| sbert | sentence-transformers")]
    assert row == "| sbert | sentence-transformers | 33.3 | 2.00 | 33% | 33.3 | 3.00 | 700 | 1e-06 |"
    heading = rows[0]
    assert "one thread: 2 GF/s in fp32, 4 in bfloat16, 10.0 GB/s read" in heading
    assert "not measured: PyLate, since stage.peers.python.pylate is not set" in heading
    assert "sentence-transformers: torch 2;" in heading


def test_the_share_of_the_limit_is_that_of_the_lines_precision() -> None:
    """A product in bfloat16 has another limit, and one in int8 none that is measured."""
    found = record()
    shares = {line.name: found.limit_share(line) for line in found.lines}
    assert shares["irexp, small"] == pytest.approx(1.0)
    assert shares["irexp, bf16"] == pytest.approx(1.0)
    assert shares["irexp, int8"] is None
    assert Record("fit", {}, [], found.loads, found.limits).limit_share(found.lines[2]) == pytest.approx(3.0)


def test_a_section_is_added_to_a_file_without_it(tmp_path: Path) -> None:
    """A folder of one's own has no README yet; written twice, there is still one section."""
    for text in ("one", "two"):
        write_section(tmp_path / "README.md", "name", text)
    assert (tmp_path / "README.md").read_text() == "<!-- name: generated -->\n\ntwo\n\n<!-- name: end -->\n"


def test_the_limits_are_positive_rates_and_leave_the_threads_as_they_were() -> None:
    """They divide every share."""
    limits = measure_limits(8, 16, 32, torch.device("cpu"))
    assert min(limits.fp32, limits.bf16, limits.read) > 0
