"""Curves are drawn with their labels, and the same values give the same file."""

from __future__ import annotations

from pathlib import Path

from irexp.peer.figure import Panel, plot_curves


def test_the_same_values_give_the_same_svg(tmp_path: Path) -> None:
    """A committed figure changes only with its values."""
    panels = [Panel("tokens", "speed", {"ours": [(1.0, 2.0), (10.0, 20.0)], "theirs": 5.0}, "sbert")] * 2
    for name in ("one.svg", "two.svg"):
        plot_curves(panels, tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one == two
    assert b"<!-- theirs -->" in one
