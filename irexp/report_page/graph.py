"""The lineage of measures as a picture: what was made from what, from left to right, shared artifacts drawn once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irexp.report_page.mark import colour_class, marker
from irexp.report_page.markup import Html, element, shortened

#: The usual place of each kind; what is made from another experiment's run comes after it.
_PLACES = {"checkpoint": 0, "encoding": 1, "index": 2, "run": 3, "scores": 4, "examples": 5, "measures": 6}

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _EDGE = 166, 44, 40, 12, 8

#: The height of a lane, which a line takes in the columns that it crosses.
_LANE = 18

#: The width of a letter, on average, of the first and the second line; and how much a picture may be scaled down.
_LETTER, _SMALL_LETTER, _SMALLEST = 6.6, 6.1, 0.7


@dataclass(frozen=True)
class Node:
    """An artifact.

    Attributes:
        kind: its kind.
        name: its full name, or what was given.
        title: the first line.
        detail: the second line.
        inputs: the keys of the nodes that it is made from.
        row: the number of the row that measures belong to.
        is_given: whether it is not in the store.
    """

    kind: str
    name: str
    title: str
    detail: str
    inputs: tuple[str, ...] = ()
    row: int | None = None
    is_given: bool = False


def lineage_graph(nodes: Mapping[str, Node]) -> Html:
    """The picture.

    Args:
        nodes: by key; every input is among them, and none is made from itself. Measures are drawn in their order. An
            input that another input is made from is not joined by a line of its own.
    """
    columns = _columns(nodes)
    lines, lanes = _lines(nodes, columns)
    middles = _middles([*nodes, *lanes], lines, columns | lanes)
    place = {key: (_EDGE + (columns | lanes)[key] * (_WIDTH + _GAP_X), middle) for key, middle in middles.items()}
    top = min(middles.values()) - _HEIGHT / 2 - _EDGE
    place = {key: (x, y - top) for key, (x, y) in place.items()}
    width = max(x for x, _ in place.values()) + _WIDTH + _EDGE
    height = max(y for _, y in place.values()) + _HEIGHT / 2 + _EDGE
    edges = [_edge(place[before], place[after], is_lane=after in lanes) for before, after in lines]
    boxes = [_box(node, *place[key]) for key, node in nodes.items()]
    return element(
        "svg",
        *edges,
        *boxes,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        style=f"width: 100%; min-width: {_SMALLEST * width:.0f}px; max-width: {width:.0f}px",
        class_="lineage",
        role="img",
        aria_label="which artifact was made from which",
    )


def _direct(nodes: Mapping[str, Node], key: str) -> list[str]:
    """The inputs of a node, each once, without those that another of its inputs is made from."""
    indirect: set[str] = set()
    waiting = [further for before in nodes[key].inputs for further in nodes[before].inputs]
    while waiting:
        one = waiting.pop()
        if one not in indirect:
            indirect.add(one)
            waiting += nodes[one].inputs
    return [before for before in dict.fromkeys(nodes[key].inputs) if before not in indirect]


def _columns(nodes: Mapping[str, Node]) -> dict[str, int]:
    """The column of each node: after all its inputs; measures are in the last one."""
    found: dict[str, int] = {}

    def visit(key: str) -> int:
        if key not in found:
            node = nodes[key]
            found[key] = max([_PLACES.get(node.kind, 0), *(visit(before) + 1 for before in node.inputs)])
        return found[key]

    for key in nodes:
        visit(key)
    used = {column: number for number, column in enumerate(sorted(set(found.values())))}
    last = len(used) - 1
    return {key: last if node.kind == "measures" else used[found[key]] for key, node in nodes.items()}


def _lines(nodes: Mapping[str, Node], columns: Mapping[str, int]) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """The lines from one column to the next, and the column of each lane.

    A line that crosses a column takes a lane there, so that it does not run behind a box; lines of the same artifact
    share their lanes.
    """
    lines: dict[tuple[str, str], None] = {}
    lanes: dict[str, int] = {}
    for key in nodes:
        for before in _direct(nodes, key):
            last = before
            for column in range(columns[before] + 1, columns[key]):
                lane = f"lane {column} of {before}"
                lanes[lane] = column
                lines[last, lane] = None
                last = lane
            lines[last, key] = None
    return list(lines), lanes


def _middles(keys: Sequence[str], lines: Sequence[tuple[str, str]], columns: Mapping[str, int]) -> dict[str, float]:
    """The height of each box and lane: of the last column one below the other, of others at the mean of their lines.

    Those of a column that would overlap are moved down.
    """
    users: dict[str, list[str]] = {key: [] for key in keys}
    for before, after in lines:
        users[before].append(after)
    middles: dict[str, float] = {}
    for column in sorted(set(columns.values()), reverse=True):
        members = [key for key in keys if columns[key] == column]
        wanted = {
            key: sum(middles[user] for user in users[key]) / len(users[key])
            if users[key]
            else float(number * (_HEIGHT + _GAP_Y))
            for number, key in enumerate(members)
        }
        lowest = -math.inf
        for key in sorted(members, key=wanted.__getitem__):
            half = (_LANE if key.startswith("lane ") else _HEIGHT + _GAP_Y) / 2
            middles[key] = max(wanted[key], lowest + half)
            lowest = middles[key] + half
    return middles


def _edge(start: tuple[float, float], end: tuple[float, float], *, is_lane: bool) -> Html:
    """A curve over the gap between two columns; through a lane it continues straight."""
    x1, y1, x2, y2 = start[0] + _WIDTH, start[1], end[0], end[1]
    middle = (x1 + x2) / 2
    curve = f"M{x1:.0f} {y1:.1f}C{middle:.0f} {y1:.1f} {middle:.0f} {y2:.1f} {x2:.0f} {y2:.1f}"
    return element("path", d=curve + (f"H{x2 + _WIDTH:.0f}" if is_lane else ""), class_="edge")


def _box(node: Node, x: float, y: float) -> Html:
    top = y - _HEIGHT / 2
    indent = 12 if node.row is None else 26
    row = () if node.row is None else (marker(node.row, x + 14, y),)
    classes = [
        "box",
        *(["given"] if node.is_given else []),
        *([colour_class(node.row)] if node.row is not None else []),
    ]
    room = _WIDTH - indent - 6
    lines = [
        element("text", shortened(node.title, int(room / _LETTER)), x=x + indent, y=y - 3),
        element("text", shortened(node.detail, int(room / _SMALL_LETTER)), x=x + indent, y=y + 13, class_="small"),
    ]
    rectangle = element("rect", x=x, y=top, width=_WIDTH, height=_HEIGHT, rx=5, class_=" ".join(classes))
    return element("g", element("title", f"{node.kind}: {node.name}"), rectangle, *row, *lines)
