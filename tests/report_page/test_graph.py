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


def test_lines_lead_from_left_to_right_without_detours() -> None:
    """Every input is to the left; one that another input is made from has no line of its own."""
    svg = lineage_graph(NODES)
    ends = re.findall(r'<path d="M([\d.]+) [\d.]+H[^"]* ([\d.]+) [\d.]+" class="edge"', svg)
    assert len(ends) == 15 - 3  # r1 and r2 are made from c through their encodings, r3 from rb through cm
    assert all(float(start) < float(end) for start, end in ends)
