"""The mark of a row, the same in every part of a page: a colour, a marker and a line's dashes.

The colours are those of Okabe and Ito 2008 (Color Universal Design), which colour-blind readers can tell apart; without
black, which is the text's, and yellow, which is invisible on white. After seven rows the colours repeat with another
marker and other dashes.
"""

from __future__ import annotations

import math

from irexp.report_page.markup import Html, element

#: Each colour on a light and on a dark page.
COLOURS = (
    ("#0072b2", "#4fb3ee"),
    ("#d55e00", "#ff8a3d"),
    ("#009e73", "#33cfa3"),
    ("#b8578f", "#eb9ecb"),
    ("#b07800", "#f0b73a"),
    ("#6a6a6a", "#b9b9b9"),
    ("#2a3f9d", "#97a6ff"),
)

_DASHES = (None, "7 3", "2 3", "9 3 2 3")

#: The corners of each marker, in degrees from the right; none for a disc.
_CORNERS = ((), (45, 135, 225, 315), (30, 150, 270), (0, 90, 180, 270))


def colour_class(row: int) -> str:
    """The class that sets `--row`, the row's colour."""
    return f"c{row % len(COLOURS)}"


def dashes(row: int) -> str | None:
    """The dashes of a row's lines."""
    return _DASHES[row // len(COLOURS) % len(_DASHES)]


def marker(row: int, x: float, y: float, *, size: float = 4.5, title: str = "") -> Html:
    """A row's marker at a point, as SVG."""
    corners = _CORNERS[row // len(COLOURS) % len(_CORNERS)]
    hint = (element("title", title),) if title else ()
    if not corners:
        return element("circle", *hint, cx=x, cy=y, r=size, class_=f"mark {colour_class(row)}")
    angles = [math.radians(corner) for corner in corners]
    points = " ".join(f"{x + 1.2 * size * math.cos(a):.1f},{y + 1.2 * size * math.sin(a):.1f}" for a in angles)
    return element("polygon", *hint, points=points, class_=f"mark {colour_class(row)}")


def swatch(row: int) -> Html:
    """A row's line and marker, small, for legends and row heads."""
    line = element("line", x1=1, y1=7, x2=25, y2=7, class_=f"line {colour_class(row)}", stroke_dasharray=dashes(row))
    return element(
        "svg",
        line,
        marker(row, 13.0, 7.0),
        class_="swatch",
        viewBox="0 0 26 14",
        width=26,
        height=14,
        aria_hidden="true",
    )
