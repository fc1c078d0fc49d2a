"""Curves of speed, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Points, or a single value without a place: a horizontal line.
Curve = Sequence[tuple[float, float]] | float


@dataclass(frozen=True)
class Panel:
    """A panel of curves; the horizontal axis is logarithmic.

    Attributes:
        x: the name of the horizontal axis.
        y: that of the vertical one.
        curves: by label.
        title: above the panel.
        is_log: whether the vertical axis is logarithmic, too; else it begins at zero.
    """

    x: str
    y: str
    curves: Mapping[str, Curve]
    title: str = ""
    is_log: bool = False


def plot_curves(panels: Sequence[Panel], path: Path) -> None:
    """Write the panels side by side; the same values give the same file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        axes.set_xscale("log")
        if panel.is_log:
            axes.set_yscale("log")
        for place, (label, curve) in enumerate(panel.curves.items()):
            if isinstance(curve, float):
                axes.axhline(curve, linestyle="--", linewidth=1, color=f"C{place}", label=label)
            else:
                axes.plot(*zip(*curve, strict=True), "o-", markersize=4, color=f"C{place}", label=label)
        for axis in (axes.xaxis, axes.yaxis) if panel.is_log else (axes.xaxis,):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
        if not panel.is_log:
            axes.set_ylim(bottom=0)
        axes.set(xlabel=panel.x, ylabel=panel.y, title=panel.title)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=7)
    with rc_context({"svg.hashsalt": "irexp"}):
        figure.savefig(path, metadata={"Date": None})
