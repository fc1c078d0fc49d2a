"""Charts as SVG: lines over steps, points over costs, and bars of differences. Colours and fonts are the page's CSS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from irexp.report_page.mark import colour_class, dashes, marker
from irexp.report_page.markup import Html, element, shortened
from irexp.report_page.scale import Scale, linear, logarithmic, tick_text

#: The most points of a line and the most bars; more are averaged in groups of neighbours.
MOST_POINTS, MOST_BARS = 200, 240

#: The space around a chart for its axes, in pixels.
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 28, 44


@dataclass(frozen=True)
class Series:
    """A line: the number of its row, what it shows, and its points by step."""

    row: int
    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Dot:
    """A point: the number of its row, what it shows, its cost and its value."""

    row: int
    label: str
    cost: float
    value: float


def line_chart(series: Sequence[Series], *, x_name: str, y_name: str) -> Html:
    """Lines over linear axes; a line of few points has markers."""
    width, height = 520, 280
    points = [point for one in series for point in one.points]
    x = linear([0.0, *(step for step, _ in points)], _LEFT, width - _RIGHT)
    y = linear([value for _, value in points], height - _BOTTOM, _TOP)
    shapes: list[Html] = []
    for one in series:
        found = thinned(one.points, MOST_POINTS)
        path = "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in found)
        title = element("title", one.label)
        shapes.append(
            element("path", title, d=path, class_=f"line {colour_class(one.row)}", stroke_dasharray=dashes(one.row))
        )
        if len(found) <= 30:
            hints = [f"{one.label}: {value:.4g} at {tick_text(step)}" for step, value in found]
            shapes += [
                marker(one.row, x(step), y(value), size=3.0, title=hint)
                for (step, value), hint in zip(found, hints, strict=True)
            ]
    return _chart(width, height, x, y, shapes, x_name=x_name, y_name=y_name)


def cost_chart(dots: Sequence[Dot], front: Sequence[tuple[float, float]], *, x_name: str, y_name: str) -> Html:
    """Points over a logarithmic cost; a dashed line of steps joins those of the Pareto front."""
    width, height = 520, 320
    x = logarithmic([dot.cost for dot in dots], _LEFT, width - _RIGHT)
    y = linear([dot.value for dot in dots], height - _BOTTOM, _TOP)
    steps = [f"{x(cost):.1f} {y(value):.1f}" for cost, value in front]
    path = "M" + steps[0] + "".join(f"H{x(cost):.1f}V{y(value):.1f}" for cost, value in front[1:])
    shapes = [element("path", d=path, class_="front")] if len(front) > 1 else []
    for dot in dots:
        title = f"{dot.label}: {dot.value:.4f} at {tick_text(dot.cost)}"
        shapes.append(marker(dot.row, x(dot.cost), y(dot.value), size=6.0, title=title))
    return _chart(width, height, x, y, shapes, x_name=x_name, y_name=y_name)


def bar_chart(bars: Sequence[tuple[str, float]], *, x_name: str, y_name: str) -> Html:
    """Bars in the given order, those above zero in one colour and those below in another.

    Args:
        bars: the name and value of each; more than `MOST_BARS` are averaged in groups of neighbours.
        x_name: what a bar is.
        y_name: what its length is.
    """
    width, height = 960, 240
    groups = _groups(len(bars), MOST_BARS)
    shown = [bars[group] for group in groups]
    values = [sum(value for _, value in group) / len(group) for group in shown]
    y = linear([0.0, *values], height - _BOTTOM, _TOP)
    step = (width - _LEFT - _RIGHT) / len(values)
    thickness = min(28.0, max(1.0, step * 0.82))
    shapes = []
    for number, (group, value) in enumerate(zip(shown, values, strict=True)):
        top, bottom = sorted((y(value), y(0.0)))
        name = shortened(group[0][0], 60) + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        shapes.append(
            element(
                "rect",
                *((element("title", f"{name}: {value:+.4f}"),) if len(values) <= 120 else ()),
                x=_LEFT + number * step + (step - thickness) / 2,
                y=top,
                width=thickness,
                height=max(bottom - top, 0.8),
                class_="gain" if value > 0 else "loss" if value < 0 else "tie",
            )
        )
    shapes.append(element("line", x1=_LEFT, x2=width - _RIGHT, y1=y(0.0), y2=y(0.0), class_="axis"))
    return _chart(width, height, None, y, shapes, x_name=x_name, y_name=y_name)


def history_chart(points: Sequence[tuple[int, float]], *, is_highest: bool, y_name: str) -> Html:
    """The value of each trial as a point, and the best so far as a line of steps.

    Args:
        points: the number and value of each trial, in their order; at least one.
        is_highest: whether the highest value is the best.
        y_name: what the value is.
    """
    width, height = 520, 280
    x = linear([0.0, *(float(number) for number, _ in points)], _LEFT, width - _RIGHT)
    y = linear([value for _, value in points], height - _BOTTOM, _TOP)
    best = list(accumulate((value for _, value in points), max if is_highest else min))
    path = f"M{x(points[0][0]):.1f} {y(best[0]):.1f}"
    path += "".join(f"H{x(number):.1f}V{y(value):.1f}" for (number, _), value in zip(points, best, strict=True))
    shapes = [element("path", d=path, class_=f"line {colour_class(0)}")]
    hints = [f"trial {number}: {value:.4f}" for number, value in points]
    for (number, value), hint in zip(points, hints, strict=True):
        shapes.append(marker(0, x(number), y(value), size=3.0, title=hint))
    return _chart(width, height, x, y, shapes, x_name="trial", y_name=y_name)


def share_chart(shares: Sequence[tuple[str, float]], *, name: str) -> Html:
    """Horizontal bars of shares of 1, in the given order, each with its name and value."""
    width, left, step = 520, 190, 26
    height = _TOP + step * len(shares) + 8
    parts = [element("text", name, x=4, y=16, class_="name")]
    for number, (label, share) in enumerate(shares):
        top = _TOP + number * step
        length = (width - left - 60) * share
        parts += [
            element("text", shortened(label, 28), x=left - 8, y=top + 16, text_anchor="end"),
            element("rect", x=left, y=top + 3, width=max(length, 0.8), height=step - 8, class_="gain"),
            element("text", f"{share:.2f}", x=left + length + 6, y=top + 16),
        ]
    box = f"0 0 {width} {height}"
    return element("svg", *parts, viewBox=box, class_="chart", role="img", aria_label=name)


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """The points, or the means of groups of neighbours if there are more than `most`."""
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in (points[one] for one in _groups(len(points), most))
    ]


def _groups(count: int, most: int) -> list[slice]:
    """At most `most` slices of nearly the same length that cover `count` items."""
    number = min(count, most)
    return [slice(n * count // number, (n + 1) * count // number) for n in range(number)]


def _chart(
    width: int, height: int, x: Scale | None, y: Scale, shapes: Sequence[Html], *, x_name: str, y_name: str
) -> Html:
    """A chart with its axes; without `x` the horizontal axis has no ticks."""
    left, right, bottom = _LEFT, width - _RIGHT, height - _BOTTOM
    parts: list[Html] = []
    for tick in y.ticks:
        parts.append(element("line", x1=left, x2=right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", tick_text(tick), x=left - 8, y=y(tick) + 4, text_anchor="end"))
    for tick in x.ticks if x is not None else ():
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=_TOP, y2=bottom, class_="grid"))  # type: ignore[misc]
        parts.append(element("text", tick_text(tick), x=x(tick), y=bottom + 16, text_anchor="middle"))  # type: ignore[misc]
    parts.append(element("text", x_name, x=(left + right) / 2, y=height - 6, text_anchor="middle", class_="name"))
    parts.append(element("text", y_name, x=4, y=16, class_="name"))
    return element(
        "svg",
        *parts,
        *shapes,
        viewBox=f"0 0 {width} {height}",
        class_="chart",
        role="img",
        aria_label=f"{y_name} over {x_name}",
    )
