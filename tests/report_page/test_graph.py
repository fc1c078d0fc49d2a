"""The picture of a lineage draws each artifact once, and none over another."""

from __future__ import annotations

import itertools
import re

from irexp.report_page.graph import Node, lineage_graph

#: Two engines over one encoding, and a re-ranker that learned from BM25's run and re-ranks it.
NODES = {
    "m1": Node("measures", "flat", "flat", "1 s", ("r1",), row=0),
    "m2": Node("measures", "ivf", "ivf", "1 s", ("r2",), row=1),
    "m3": Node("measures", "mono over bm25", "mono over bm25", "1 s", ("r3",), row=2),
    "c": Node("checkpoint", "sbert", "sbert", "9 s"),
    "e": Node("encoding", "sbert", "sbert", "9 s", ("c",)),
    "i1": Node("index", "flat", "flat", "9 s", ("e",)),
    "i2": Node("index", "ivf", "ivf", "9 s", ("e",)),
    "ib": Node("index", "bm25", "bm25", "9 s"),
    "r1": Node("run", "flat", "flat", "9 s", ("i1", "c")),
    "r2": Node("run", "ivf", "ivf", "9 s", ("i2", "c")),
    "rb": Node("run", "bm25", "bm25", "9 s", ("ib",)),
    "cm": Node("checkpoint", "mono", "mono", "9 s", ("rb", "hub")),
    "r3": Node("run", "mono", "mono", "9 s", ("rb", "cm")),
    "hub": Node("checkpoint", "a/hub-model", "a/hub-model", "given", is_given=True),
}


def test_every_artifact_is_drawn_once_and_none_over_another() -> None:
    """Boxes that share a column do not overlap."""
    svg = lineage_graph(NODES)
    boxes = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="166"', svg)]
    assert len(boxes) == len(NODES) == len(set(boxes))
    for x in {x for x, _ in boxes}:
        heights = sorted(y for other, y in boxes if other == x)
        assert all(lower - upper >= 44 for upper, lower in itertools.pairwise(heights))
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    assert all(0 <= x <= width - 166 and 0 <= y <= height - 44 for x, y in boxes)


def test_lines_lead_from_left_to_right_and_never_run_behind_a_box() -> None:
    """An input that another input is made from has no line; a line that crosses a column passes between its boxes."""
    svg = lineage_graph(NODES)
    boxes = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="166"', svg)]
    number = r"([\d.]+)"
    curves = re.findall(rf'<path d="M{number} {number}C[^"]*? {number} {number}(?:H{number})?" class="edge"', svg)
    ends = {(float(x) - 166, float(y) - 22) for x, y, *_ in curves}
    starts = {(float(x), float(y) - 22) for _, _, x, y, beyond in curves if not beyond}
    assert all(float(before) < float(after) for before, _, after, *_ in curves)
    assert starts == {box for box in boxes if box in starts} and len(starts) == len(NODES) - 3  # of three without input
    assert len(curves) >= 15 - 3  # r1 and r2 are made from c through their encodings, r3 from rb through cm
    lanes = [(float(x), float(y)) for _, _, x, y, beyond in curves if beyond]
    assert lanes and all((x, y - 22) in ends for x, y in lanes)
    assert not [y for x, y in lanes for left, top in boxes if left == x and top - 4 < y < top + 48]
