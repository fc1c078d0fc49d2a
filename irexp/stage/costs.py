"""Effectiveness against cost, for the rows whose search stage=speed measured: a table and a plot."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from irexp.artifact.store import Store
from irexp.evaluation.plot import Point, plot_costs
from irexp.stage.pivot import Pivoted, run_identity

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchCosts:
    """The measures of a run, and what stage=speed measured of its search, both by name."""

    measures: Mapping[str, float]
    costs: Mapping[str, float]

    def point(self, label: str, measure: str) -> Point:
        """The run in a plot of a measure; nan for the bytes of an index on a server, which are not known."""
        size = self.costs.get("bytes_per_document", math.nan)
        return Point(label, self.measures[measure], self.costs["ms_one_by_one"], size)


def search_costs(members: Iterable[Pivoted], store: Store) -> dict[str, SearchCosts]:
    """The costs of the members whose search was measured, by the label of their row."""
    found = {run_identity(folder): manifest["provenance"]["measures"] for folder, manifest in store.manifests("speed")}
    return {
        one.result.label: SearchCosts(one.result.measured.aggregated, found[run_identity(one.folder)])
        for one in members
        if run_identity(one.folder) in found
    }


def report_costs(output: Path, stem: str, costs_of: Mapping[str, SearchCosts], measure: str) -> None:
    """Write a table and a plot of costs, and log them; nothing if none was measured."""
    if not costs_of:
        return
    names = list(dict.fromkeys(name for one in costs_of.values() for name in one.costs))
    lines = [f"| | {measure} | {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) + 1)}"]
    for label, one in costs_of.items():
        cells = [f"{one.costs[name]:,.4g}" if name in one.costs else "" for name in names]
        lines.append(f"| {label} | {one.measures[measure]:.4f} | {' | '.join(cells)} |")
    text = "\n".join(lines)
    (output / f"{stem}.speed.md").write_text(text + "\n", encoding="utf8")
    points = [one.point(label, measure) for label, one in costs_of.items()]
    plot_costs(points, measure, output / f"{stem}.speed.png")
    log.info("search costs\n\n%s\n\n%s\n", text, output / f"{stem}.speed.png")
