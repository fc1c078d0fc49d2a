"""The content of a report's page, collected from the store, and the file that shows it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from irexp.artifact.git import own_state
from irexp.artifact.lineage import KIND_OF_INPUT, Lineage
from irexp.artifact.provenance import versions
from irexp.config.schema import Machine
from irexp.evaluation.table import Table
from irexp.report_page.chart import Series
from irexp.report_page.graph import Node
from irexp.report_page.origin import Command, Made
from irexp.report_page.page import Content, Costs, page
from irexp.report_page.study import Study
from irexp.stage.costs import search_costs, seeds_note
from irexp.stage.page_difference import find_differences
from irexp.stage.pivot import Pivoted
from irexp.stage.show import recorded_command

log = logging.getLogger(__name__)

#: The most measures whose lineage, command and provenance a page holds.
MEASURES = 60

#: What is said of the hardware: the recorded key, and its title.
_HARDWARE = {"processor": "processor", "cores": "cores", "memory_gib": "memory (GiB)", "system": "system"}

#: The page in a job's folder.
PAGE = "report.html"


def write_page(
    table: Table,
    pivoted: Sequence[Pivoted],
    lineage: Lineage,
    output: Path,
    *,
    study: Study | None = None,
    machine: Machine | None = None,
) -> Path:
    """Write report.html, one file that loads nothing.

    Args:
        table: the results.
        pivoted: the same results with the folders of their measures.
        lineage: of the store that holds them.
        output: the folder of the page.
        study: the search that a sweep made, if it made one.
        machine: this job's; of costs that were measured on several, its own are shown.

    Returns:
        The page's path.
    """
    start = time.perf_counter()
    labels = [row.label for row in table.rows]
    ordered = sorted(pivoted, key=lambda one: labels.index(one.result.label))
    shown = ordered[:MEASURES]
    differences, left_out = find_differences(table, pivoted, lineage)
    nodes = _nodes(shown, labels, lineage)
    content = Content(
        table,
        made=_made(),
        curves=_curves(table, lineage),
        costs=_costs(table, pivoted, lineage, machine),
        differences=differences,
        left_out=left_out,
        nodes=nodes,
        left_out_measures=len(ordered) - len(shown),
        commands=[
            Command(labels.index(one.result.label), one.result.label, name, recorded_command(lineage, name))
            for one in shown
            for name in [f"measures/{one.folder.name}"]
        ],
        provenance=[_provenance(name, found) for name, found in lineage.manifests.items() if name in nodes],
        study=study,
    )
    path = output / PAGE
    path.write_text(page(content), encoding="utf8")
    size = path.stat().st_size / 2**20
    log.info("report: %s, %.1f MiB, made in %.1f s", path, size, time.perf_counter() - start)
    return path


def _made() -> str:
    state = own_state()
    commit = f", commit {state.commit[:10]}{' with changes' if state.patch else ''}" if state else ""
    moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"Made on {moment} by irexp {versions().get('irexp', '')}{commit}."


def _curves(table: Table, lineage: Lineage) -> dict[str, list[Series]]:
    """The histories of the rows' checkpoints, by the name of what was measured."""
    from irexp.training.callbacks import read_history  # Lightning, for which a table alone does not wait

    rows_of: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        for name in row.artifacts.get("checkpoint", "").split():
            rows_of.setdefault(name, []).append(number)
    curves: dict[str, list[Series]] = {}
    for checkpoint, rows in rows_of.items():
        if checkpoint not in lineage.folders:
            continue
        points: dict[str, list[tuple[float, float]]] = {}
        for line in read_history(lineage.folders[checkpoint] / "history.csv"):
            if math.isfinite(value := float(line["value"])):
                points.setdefault(line["name"], []).append((float(line["step"]), value))
        label = ", ".join(table.rows[row].label for row in rows)
        for name, found in points.items():
            curves.setdefault(name, []).append(Series(rows[0], label, tuple(found)))
    return curves


def _costs(table: Table, pivoted: Sequence[Pivoted], lineage: Lineage, machine: Machine | None) -> list[Costs]:
    numbers = {row.label: number for number, row in enumerate(table.rows)}
    found = []
    for collection in dict.fromkeys(one.result.column for one in pivoted):
        members = [one for one in pivoted if one.result.column == collection]
        costs = search_costs(members, lineage.store, machine)
        if costs:
            measure = table.first_measure(collection)
            points = sorted(((numbers[one.label], one.point(measure)) for one in costs), key=itemgetter(0))
            name = collection if len(table.collections) > 1 else ""
            found.append(Costs(name, measure, points, seeds_note(costs)))
    return found


def _nodes(shown: Sequence[Pivoted], labels: Sequence[str], lineage: Lineage) -> dict[str, Node]:
    """The measures in the order of the table, and all that they are made from."""
    nodes: dict[str, Node] = {}
    given: dict[str, Node] = {}
    row_of = {f"measures/{one.folder.name}": one for one in shown}
    ancestors = lineage.with_ancestors(set(row_of))
    for name in [*row_of, *(name for name in lineage.manifests if name in ancestors and name not in row_of)]:
        manifest = lineage.manifests[name]
        kind, _, own = name.partition("/")
        digest, seconds = name[-8:], manifest["provenance"].get("seconds", 0)
        title, detail, row = f"{kind} {digest}", f"{seconds:,.1f} s · {own[:-9]}", None
        if name in row_of:
            result = row_of[name].result
            title, detail, row = result.label, f"measures {digest}", labels.index(result.label)
        inputs = []
        for position, (source, before, entry) in enumerate(lineage.inputs(name)):
            key = before
            if key is None:
                key = f"given {entry}"
                given[key] = _given(manifest, source, position)
            inputs.append(key)
        nodes[name] = Node(kind, own, title, detail, tuple(inputs), row)
    return nodes | given


def _given(manifest: Mapping[str, Any], source: str, position: int) -> Node:
    """An input that is not in the store, named as it was given; of several, the one at its position."""
    named = manifest["provenance"]["configuration"]["artifact"].get(source)
    name = str(named[position] if isinstance(named, list) and position < len(named) else named or source)
    return Node(KIND_OF_INPUT[source], name, Path(name).name, f"{source}, given", is_given=True)


def _provenance(name: str, manifest: Mapping[str, Any]) -> Made:
    recorded = manifest["provenance"]
    git, hardware = recorded.get("git") or {}, recorded.get("hardware") or {}
    commit = git.get("commit", "unknown")[:10] + (" with changes" if git.get("dirty") else "")
    environment = {
        "commit": commit,
        **{title: str(hardware[key]) for key, title in _HARDWARE.items() if hardware.get(key)},
        **({"gpus": ", ".join(hardware["gpus"])} if hardware.get("gpus") else {}),
        **recorded.get("versions", {}),
    }
    memory = recorded.get("peak_memory_mib")
    return Made(name, recorded.get("finished", ""), recorded.get("seconds", 0.0), memory, environment)
