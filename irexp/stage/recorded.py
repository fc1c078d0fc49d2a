"""What stage=check records of an experiment, in experiments/<name>/measured.json: values, and how they were made.

Commits, machines and minutes are those of everything that a value was made from, not only of its evaluation: a model
that was trained on a GPU and evaluated without one names both.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irexp.artifact.lineage import Lineage
from irexp.evaluation.table import MEAN
from irexp.stage import claim
from irexp.stage.pivot import Pivoted


@dataclass(frozen=True)
class Cell:
    """What was measured of a row on a collection.

    Attributes:
        row: the label of the table's row.
        column: the name of the table's collection; "" if the recipe has only one, "mean" for the mean over all.
        measures: value by measure; of several seeds their mean.
        seeds: the seeds.
        date: when the last of it was measured.
        commits: of everything that it was made from.
        machines: the processors or GPUs that made it.
        minutes: that all of it took, whatever else the machine did; None for a mean over collections.
        artifacts: the names of the measures.
    """

    row: str
    column: str
    measures: Mapping[str, float]
    seeds: Sequence[int]
    date: str
    commits: Sequence[str]
    machines: Sequence[str]
    minutes: float | None
    artifacts: Sequence[str]


def cells_of(found: Sequence[Pivoted], lineage: Lineage, *, has_columns: bool) -> list[Cell]:
    """The cells of measured results, each over all of its seeds.

    Args:
        found: the results, with their places.
        lineage: of the store that holds them.
        has_columns: whether collections are named; if not, one collection is called "".
    """
    places: dict[tuple[str, str], list[Pivoted]] = {}
    for one in found:
        places.setdefault((one.result.label, one.result.column), []).append(one)
    is_one = not has_columns and len({column for _, column in places}) == 1
    return [_cell(row, "" if is_one else column, of_seeds, lineage) for (row, column), of_seeds in places.items()]


def _cell(row: str, column: str, of_seeds: Sequence[Pivoted], lineage: Lineage) -> Cell:
    names = sorted(f"measures/{one.folder.name}" for one in of_seeds)
    records = [lineage.manifests[name]["provenance"] for name in sorted(lineage.with_ancestors(set(names)))]
    values = [one.result.measured.aggregated for one in of_seeds]
    return Cell(
        row=row,
        column=column,
        measures=_means(values),
        seeds=sorted(one.result.seed for one in of_seeds if one.result.seed is not None),
        date=max(lineage.manifests[name]["provenance"]["finished"] for name in names)[:10],
        commits=_distinct(records, _commit),
        machines=_distinct(records, _machine),
        minutes=round(sum(float(record["seconds"]) for record in records) / 60, 2),
        artifacts=names,
    )


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure that all have."""
    shared = [measure for measure in values[0] if all(measure in other for other in values)]
    return {measure: round(statistics.fmean(one[measure] for one in values), 6) for measure in shared}


def _distinct(records: Sequence[Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """What describes the records, each once, in the order of time."""
    return list(dict.fromkeys(describe(record) for record in sorted(records, key=lambda record: record["finished"])))


def _commit(record: Mapping[str, Any]) -> str:
    git = record.get("git") or {}
    return str(git.get("commit", "unknown"))[:10] + " with changes" * bool(git.get("dirty"))


def _machine(record: Mapping[str, Any]) -> str:
    """The GPUs, where the stage had torch see any; else the processor."""
    hardware = record.get("hardware") or {}
    return ", ".join(hardware.get("gpus") or [f"{hardware.get('cores')} cores, {hardware.get('processor')}"])


def with_means(cells: Sequence[Cell], columns: Sequence[str]) -> list[Cell]:
    """The cells, and for each row that was measured on all collections one with the mean over them.

    Args:
        cells: as measured; earlier means are replaced.
        columns: the names of the collections; empty if the experiment has no mean.
    """
    kept = [cell for cell in cells if cell.column != MEAN]
    found = []
    for row in dict.fromkeys(cell.row for cell in kept):
        of = {cell.column: cell for cell in kept if cell.row == row}
        if columns and all(column in of for column in columns):
            found.append(_mean([of[column] for column in columns]))
    return [*kept, *found]


def _mean(cells: Sequence[Cell]) -> Cell:
    return dataclasses.replace(
        cells[0],
        column=MEAN,
        measures=_means([cell.measures for cell in cells]),
        seeds=sorted({seed for cell in cells for seed in cell.seeds}),
        date=max(cell.date for cell in cells),
        commits=list(dict.fromkeys(commit for cell in cells for commit in cell.commits)),
        machines=list(dict.fromkeys(machine for cell in cells for machine in cell.machines)),
        minutes=None,
        artifacts=[name for cell in cells for name in cell.artifacts],
    )


def read_cells(name: str) -> list[Cell]:
    """What was recorded of an experiment so far."""
    path = _path(name)
    content = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {"cells": []}
    return [Cell(**entry) for entry in content["cells"]]


def record(name: str, cells: Sequence[Cell], columns: Sequence[str]) -> None:
    """Add cells to what is recorded of an experiment; each replaces that of the same place.

    A mean over several seeds is not replaced by one over fewer.

    Args:
        name: the experiment.
        cells: to record.
        columns: the collections of the experiment's mean.
    """
    known = {(cell.row, cell.column): cell for cell in read_cells(name)}
    for cell in cells:
        old = known.get((cell.row, cell.column))
        if old is None or len(cell.seeds) >= len(old.seeds):
            known[cell.row, cell.column] = cell
    merged = [asdict(cell) for cell in with_means(list(known.values()), columns)]
    _path(name).write_text(json.dumps({"cells": merged}, indent=1, ensure_ascii=False) + "\n", encoding="utf8")


def _path(name: str) -> Path:
    return claim.EXPERIMENTS / name / "measured.json"
