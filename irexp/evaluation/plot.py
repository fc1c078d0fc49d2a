"""A plot of effectiveness against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """A run in the plot.

    Attributes:
        label: the label of its row in the table.
        effectiveness: the value of the first measure.
        milliseconds: per query.
        bytes_per_document: the size of the index per document; nan if it is not known.
    """

    label: str
    effectiveness: float
    milliseconds: float
    bytes_per_document: float


def plot_costs(points: Sequence[Point], measure: str, path: Path) -> None:
    """Two panels, time and space, with logarithmic cost axes; the dashed line is the Pareto front."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        (
            figure.add_subplot(1, 2, 1),
            "milliseconds per query, one at a time",
            [point.milliseconds for point in points],
        ),
        (figure.add_subplot(1, 2, 2), "bytes per document", [point.bytes_per_document for point in points]),
    )
    for panel, name, values in panels:
        for number, (point, value) in enumerate(zip(points, values, strict=True)):
            panel.scatter([value], [point.effectiveness], s=36, marker="osD^vP*X"[number // 10 % 8], label=point.label)
        known = [(value, point) for value, point in zip(values, points, strict=True) if not math.isnan(value)]
        best = front([(value, point.effectiveness) for value, point in known])
        panel.step([x for x, _ in best], [y for _, y in best], "--", where="post", linewidth=0.8, color="grey")
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(name)
        panel.set_ylabel(measure)
        panel.grid(visible=True, alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=150)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front: points that no other beats on both cost and effectiveness.

    >>> front([(3.0, 0.5), (1.0, 0.4), (2.0, 0.3)])
    [(1.0, 0.4), (3.0, 0.5)]
    """
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front
