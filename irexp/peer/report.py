"""Where a comparison is written: the seconds of each round as JSON, its table in a README, its curves as SVG."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import asdict
from pathlib import Path

from irexp.peer.figure import Curve, Panel, plot_curves
from irexp.peer.lines import OWN, UNITS, Record, write_section

#: The settings of a line that is a point of the curve over the size of batches, in tokens.
_BATCH = re.compile(r"machine\.(?:token_budget|forward_tokens)=(\d+)")


def write(record: Record, folder: Path) -> None:
    """Write speed_<task>.json, the curves if there are some, and the table in the folder's README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    name, shown = f"speed_{record.task}", record.table()
    (folder / f"{name}.json").write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf8")
    if panels := curves(record):
        plot_curves(panels, folder / f"{name}.svg")
        shown += f"\n\n![by tokens per batch and per text]({name}.svg)"
    write_section(folder / "README.md", name, shown)


def curves(record: Record) -> list[Panel]:
    """The panels of each model: over the tokens of a batch, and over the length of texts; those that have points."""
    panels = []
    for model, load in record.loads.items():
        lines = [line for line in record.lines if line.model == model]
        speed = {line.name: load.items / line.seconds for line in lines}
        sizes = {line.name: _BATCH.fullmatch(" ".join(line.overrides)) for line in lines}
        batches = sorted((float(match[1]), speed[name]) for name, match in sizes.items() if match)
        if batches:
            curve: dict[str, Curve] = {f"{OWN}, by batch": batches}
            curve |= {line.name: speed[line.name] for line in lines if not line.overrides}
            panels.append(Panel("tokens per batch of irexp", record.unit, curve, model))
        points: dict[str, list[tuple[float, float]]] = {}
        for point in (point for point in record.points if point.model == model):
            rate = point.length * point.texts / statistics.median(point.seconds)
            points.setdefault(point.name, []).append((point.length, rate))
        if points:
            panels.append(Panel("tokens per text", record.unit.replace(UNITS[record.task], "tokens"), points, model))
    return panels
