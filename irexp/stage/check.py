"""The stage that compares what an experiment measured with what it claims.

`experiments/<name>/expected.yaml` holds the expected values and `measured.json` the latest measured ones. The table in
experiments/README.md is generated from both.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from irexp.artifact.experiment import Experiment
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import Placed
from irexp.artifact.store import Store
from irexp.config.installation import CONF
from irexp.stage.pivot import Pivoted, pivot
from irexp.types import UserError

log = logging.getLogger(__name__)

#: One folder per experiment, in a clone of the repository.
EXPERIMENTS = CONF.parent / "experiments"

Status = Literal["OK", "near", "FAIL", "not measured"]

_BEGIN, _END = "<!-- table:begin -->\n", "<!-- table:end -->\n"


@dataclass(frozen=True)
class Claim:
    """An expected value.

    Attributes:
        row: the label of the table's row.
        column: the name of the table's collection; "" if it has only one.
        measure: the name of the measure.
        value: the expected value.
        tolerance: how far a measured value may be from it; up to twice as far is "near".
        source: where the value comes from.
    """

    row: str
    column: str
    measure: str
    value: float
    tolerance: float
    source: str

    @property
    def place(self) -> str:
        """The table's column."""
        return f"{self.column} {self.measure}".strip()

    def status(self, measured: float | None) -> Status:
        """Compare a measured value with the expected one."""
        if measured is None:
            return "not measured"
        distance = abs(measured - self.value)
        return "OK" if distance <= self.tolerance else "near" if distance <= 2 * self.tolerance else "FAIL"


def check(output: Path, rows: Sequence[Placed] | None, experiment: Experiment, *, artifacts: str) -> None:
    """Compare an experiment's measures with its claims; write measured.json and the table of all experiments.

    Args:
        output: the job's folder; nothing is written there.
        rows: the measures of the experiment and its baselines.
        experiment: an option of conf/experiment.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: if the experiment has no claims, or a measured value is missing or too far from its claim.
    """
    name = experiment.options.get("experiment")
    claims = read_claims(str(name)) if name else []
    if not claims:
        known = ", ".join(names()) or "none here; experiments/ comes with a clone of the repository"
        raise UserError(f"stage=check needs an experiment with claims: experiment=… is one of {known}")
    measured = _measured(rows or [], Lineage(Store(Path(artifacts))))
    found = [(claim, claim.status(_value(measured, claim))) for claim in claims]
    lines = [_line(claim, status, measured) for claim, status in found]
    place = EXPERIMENTS / str(name) / "measured.json"
    place.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf8")
    write_table()
    log.info("check: %s\n%s", name, "\n".join(lines))
    failed = [line for line, (_, status) in zip(lines, found, strict=True) if status in ("FAIL", "not measured")]
    if failed:
        raise UserError(f"experiment={name} does not meet its claims:\n" + "\n".join(failed))


def names() -> list[str]:
    """The names of the experiments that have claims."""
    return sorted(path.parent.name for path in EXPERIMENTS.glob("*/expected.yaml"))


def read_claims(name: str) -> list[Claim]:
    """The claims of an experiment; none without an expected.yaml."""
    path = EXPERIMENTS / name / "expected.yaml"
    if not path.is_file():
        return []
    rows: Any = OmegaConf.to_container(OmegaConf.load(path))
    return [
        Claim(row, column, measure, float(claim["value"]), float(claim["tolerance"]), claim["source"])
        for row, columns in rows["rows"].items()
        for column, measures in (columns if _has_columns(columns) else {"": columns}).items()
        for measure, claim in measures.items()
    ]


def _has_columns(columns: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a row's claims are by column, then by measure; else they are by measure."""
    return not any("value" in claim for claim in columns.values())


def _value(measured: Mapping[str, Any], claim: Claim) -> float | None:
    value: float | None = measured["rows"].get(claim.row, {}).get(claim.place)
    return value


def write_table() -> None:
    """Write the table of all experiments into experiments/README.md."""
    path = EXPERIMENTS / "README.md"
    before, _, rest = path.read_text(encoding="utf8").partition(_BEGIN)
    path.write_text(f"{before}{_BEGIN}{table()}{_END}{rest.partition(_END)[2]}", encoding="utf8")


def table() -> str:
    """The table of all experiments, in Markdown: expected values, and those that the last stage=check measured."""
    lines = [
        "| experiment | row | measure | expected | measured | | minutes | commit, date, processor |",
        "| --- | --- | --- | ---: | ---: | --- | ---: | --- |",
    ]
    for name in names():
        path = EXPERIMENTS / name / "measured.json"
        measured = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {"rows": {}, "minutes": {}}
        first = f"[{name}]({name}/README.md)"
        where = ", ".join(measured[key] for key in ("commit", "date", "processor")) if path.is_file() else "not run yet"
        for claim in read_claims(name):
            value = _value(measured, claim)
            shown = "" if value is None else f"{value:.4f}"
            status = claim.status(value) if path.is_file() else ""
            minutes = measured["minutes"].get(claim.row)
            cells = [first, claim.row, claim.place, f"{claim.value:.4f}", shown, status]
            lines.append(f"| {' | '.join(cells)} | {'' if minutes is None else f'{minutes:.1f}'} | {where} |")
            first = where = ""
    return "\n".join(lines) + "\n"


def _measured(placed: Sequence[Placed], lineage: Lineage) -> dict[str, Any]:
    """The content of measured.json: values, minutes and artifacts per row; commit, date and processor."""
    found = pivot(placed, lineage)
    records = [lineage.manifests[f"measures/{one.folder.name}"]["provenance"] for one in found]
    last: dict[str, Any] = max(records, key=lambda record: str(record["finished"]), default={})
    git, hardware = last.get("git", {}), last.get("hardware", {})
    has_one = len({one.result.column for one in found}) == 1
    rows: dict[str, dict[str, float]] = {}
    artifacts: dict[str, list[str]] = {}
    for (label, column), of_seeds in _by_place(found).items():
        measures = of_seeds[0].result.measured.aggregated
        for measure in measures:
            values = [one.result.measured.aggregated[measure] for one in of_seeds]
            place = measure if has_one else f"{column} {measure}"
            rows.setdefault(label, {})[place] = round(statistics.fmean(values), 6)
        artifacts.setdefault(label, []).extend(f"measures/{one.folder.name}" for one in of_seeds)
    return {
        "commit": git.get("commit", "unknown")[:10] + " with changes" * bool(git.get("dirty")),
        "date": last.get("finished", "")[:10],
        "processor": ", ".join(hardware.get("gpus") or [f"{hardware.get('cores')} cores, {hardware.get('processor')}"]),
        "rows": rows,
        "minutes": {row: _minutes(names, lineage) for row, names in artifacts.items()},
        "artifacts": artifacts,
    }


def _by_place(found: Sequence[Pivoted]) -> dict[tuple[str, str], list[Pivoted]]:
    """The results of each row and column, one per seed."""
    places: dict[tuple[str, str], list[Pivoted]] = {}
    for one in found:
        places.setdefault((one.result.label, one.result.column), []).append(one)
    return places


def _minutes(names: Sequence[str], lineage: Lineage) -> float:
    """The minutes that artifacts took, with all that they are made from."""
    parts = lineage.with_ancestors(set(names))
    return round(sum(float(lineage.manifests[part]["provenance"]["seconds"]) for part in parts) / 60, 2)


def _line(claim: Claim, status: Status, measured: Mapping[str, Any]) -> str:
    value = _value(measured, claim)
    shown = "–" if value is None else f"{value:.4f}"
    expected = f"{claim.value:.4f} ± {claim.tolerance:g}, {claim.source}"
    return f"  {status:12} {claim.row}: {claim.place} {shown}, expected {expected}"
