"""Effectiveness against cost, for the rows whose search stage=speed measured: a table and a plot.

Seeds are averaged, as in the main table. What depends on the machine is not: of a row that was measured on several
machines, or with several numbers of threads, what this job's own settings would measure is shown, else all of it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irexp.artifact.identity import settings_of
from irexp.artifact.stages import stage_of
from irexp.artifact.store import Store
from irexp.config.schema import Machine
from irexp.evaluation.plot import Point, plot_costs
from irexp.stage.pivot import Pivoted, run_identity

log = logging.getLogger(__name__)

#: Where a search was measured: the settings of the machine that enter the identity of a speed, as pairs.
Place = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class SearchCosts:
    """A row's measures, and what stage=speed measured of its search in one place.

    Attributes:
        label: of the row.
        measures: of each seed.
        costs: their means over the seeds whose search was measured.
        timed: the number of these seeds.
        place: where it was measured, in words; None if all of the table was measured in one place.
    """

    label: str
    measures: Sequence[Mapping[str, float]]
    costs: Mapping[str, float]
    timed: int
    place: str | None = None

    @property
    def title(self) -> str:
        """The row's label; with the place if the table has several."""
        return self.label if self.place is None else f"{self.label} ({self.place})"

    def effectiveness(self, measure: str) -> str:
        """The mean over the seeds, with its standard deviation, as in the main table."""
        values = [found[measure] for found in self.measures]
        deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.4f}{deviation}"

    def point(self, measure: str) -> Point:
        """The row in a plot of a measure; nan for the bytes of an index on a server, which are not known."""
        size = self.costs.get("bytes_per_document", math.nan)
        mean = statistics.fmean(found[measure] for found in self.measures)
        return Point(self.title, mean, self.costs["ms_one_by_one"], size)


def search_costs(members: Iterable[Pivoted], store: Store, machine: Machine | None) -> list[SearchCosts]:
    """The costs of the rows whose search was measured, in the order of the rows; several of a row if places differ.

    Args:
        members: the results of one collection.
        store: where they are.
        machine: this job's; None if no place is preferred.
    """
    found = _by_run(store)
    here = None if machine is None else _place(_settings_here(machine))
    rows: dict[str, list[Pivoted]] = {}
    for one in members:
        rows.setdefault(one.result.label, []).append(one)
    shown: list[tuple[Place, SearchCosts]] = []
    for label, seeds in rows.items():
        timed: dict[Place, list[Mapping[str, float]]] = {}
        for one in seeds:
            for place, costs in found.get(run_identity(one.folder), {}).items():
                timed.setdefault(place, []).append(costs)
        measures = [one.result.measured.aggregated for one in seeds]
        shown += [
            (place, SearchCosts(label, measures, _means(timed[place]), len(timed[place])))
            for place in ([here] if here in timed else timed)
        ]
    if len({place for place, _ in shown}) == 1:
        return [costs for _, costs in shown]
    return [dataclasses.replace(costs, place=_in_words(place)) for place, costs in shown]


def report_costs(output: Path, stem: str, costs: Sequence[SearchCosts], measure: str) -> None:
    """Write a table and a plot of costs, and log them; nothing if none was measured."""
    if not costs:
        return
    names = list(dict.fromkeys(name for one in costs for name in one.costs))
    lines = [f"| | {measure} | {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) + 1)}"]
    for one in costs:
        cells = [f"{one.costs[name]:,.4g}" if name in one.costs else "" for name in names]
        lines.append(f"| {one.title} | {one.effectiveness(measure)} | {' | '.join(cells)} |")
    if note := seeds_note(costs):
        lines += ["", note]
    text = "\n".join(lines)
    (output / f"{stem}.speed.md").write_text(text + "\n", encoding="utf8")
    plot_costs([one.point(measure) for one in costs], measure, output / f"{stem}.speed.png")
    log.info("search costs\n\n%s\n\n%s\n", text, output / f"{stem}.speed.png")


def seeds_note(costs: Sequence[SearchCosts]) -> str:
    """How many seeds the means of each row are over; empty if no row has several."""
    counts = [
        f"{one.title} {len(one.measures)}" + (f", costs of {one.timed}" if one.timed < len(one.measures) else "")
        for one in costs
        if len(one.measures) > 1
    ]
    return f"Means over seeds, ± the standard deviation: {'; '.join(counts)}." if counts else ""


def _by_run(store: Store) -> dict[str, dict[Place, Mapping[str, float]]]:
    """What was measured of each run, by the place; that of the latest version of stage=speed."""
    found: dict[str, dict[Place, Mapping[str, float]]] = {}
    manifests = sorted(store.manifests("speed"), key=lambda pair: pair[1]["made_from"].get("content_version", 1))
    for folder, manifest in manifests:
        found.setdefault(run_identity(folder), {})[_place(manifest["made_from"])] = manifest["provenance"]["measures"]
    return found


def _settings_here(machine: Machine) -> dict[str, Any]:
    """The settings that a speed measured by this job would be made from."""
    values = {"machine": {"accelerator": machine.accelerator, "threads": machine.threads}}
    return settings_of(stage_of("speed"), values, values)


def _place(made_from: Mapping[str, Any]) -> Place:
    paths = [setting.path for setting in stage_of("speed").settings]
    return tuple((path, made_from[path]) for path in paths if path in made_from)


def _in_words(place: Place) -> str:
    """Threads, processor and GPU, and what else was chosen."""
    of = dict(place)
    threads = of.get("machine.threads")
    counted = "default threads" if threads is None else f"{threads} thread{'s' if threads > 1 else ''}"
    chosen = of.get("machine.accelerator")
    parts = [counted, of.get("processor"), of.get("gpu"), None if chosen == "auto" else f"accelerator={chosen}"]
    return ", ".join(str(part) for part in parts if part)


def _means(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each cost over those that have it."""
    names = dict.fromkeys(name for one in costs for name in one)
    return {name: statistics.fmean(one[name] for one in costs if name in one) for name in names}
