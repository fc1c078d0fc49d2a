"""The stage that makes a table per test collection: of an experiment and its baselines, or of all measures.

A row's label says how it differs from the others (`irexp.stage.label`); the artifacts of each row are listed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irexp.artifact.identity import digest_in
from irexp.artifact.lineage import Lineage
from irexp.artifact.manifest import read_manifest
from irexp.artifact.store import Store
from irexp.config.schema import Evaluation
from irexp.evaluation.measures import load_measured, parse_measures
from irexp.evaluation.plot import Point, plot_costs
from irexp.evaluation.table import Row, Table, make_table
from irexp.stage.label import labels
from irexp.types import UserError

log = logging.getLogger(__name__)


def report(output: Path, rows: Sequence[Path] | None, *, artifacts: str, evaluation: Evaluation) -> dict[str, Table]:
    """Write a table per test collection into `output` as md, tex and csv, its artifacts as json, and log it.

    Args:
        output: the job's output folder.
        rows: the measures to compare, the first being the baseline of the tests; None for all in the store.
        artifacts: the folder of all artifacts.
        evaluation: the columns (measures), and how differences are tested.

    Returns:
        The tables by the collection's name.
    """
    folders = list(dict.fromkeys(rows)) if rows is not None else _everything(Store(Path(artifacts)))
    if not folders:
        raise UserError(f"nothing was measured yet in {Path(artifacts).resolve()}; run stage=all, or stage=evaluate")
    groups = _by_test(folders, evaluation)
    if not groups:
        raise UserError(
            f"none of the {len(folders)} results in {Path(artifacts).resolve()} has all of "
            f"{', '.join(evaluation.measures)}; choose the evaluation that they were made with"
        )
    tables = {}
    lineage = Lineage(Store(Path(artifacts)))
    for name, members in groups.items():
        table = make_table(
            _rows(members, lineage),
            evaluation.measures,
            test=evaluation.significance,
            permutations=evaluation.permutations,
            correction=evaluation.correction,
            alpha=evaluation.alpha,
        )
        tables[name] = table
        stem = "table" if len(tables) == 1 else f"table.{name}"
        rows_of = [{"row": row.label, "artifacts": " ".join(row.artifacts.values()).split()} for row in table.rows]
        texts = {"md": table.to_markdown(), "tex": table.to_latex(), "csv": table.to_csv(), "json": json.dumps(rows_of)}
        for suffix, text in texts.items():
            (output / f"{stem}.{suffix}").write_text(text, encoding="utf8")
        _report_costs(output, stem, members, table, Store(Path(artifacts)), evaluation)
        artifacts_of = "\n".join(f"  {row.label}: {' '.join(row.artifacts.values())}" for row in table.rows)
        log.info("%s\n\n%s\nartifacts, below %s:\n%s\n", name, table.to_markdown(), artifacts, artifacts_of)
    log.info("report: %s", output / "table.md")
    return tables


def _report_costs(
    output: Path, stem: str, members: Sequence[Path], table: Table, store: Store, evaluation: Evaluation
) -> None:
    """Write a table and a plot of the rows whose search stage=speed measured."""
    found = {_run_identity(folder): manifest["provenance"]["measures"] for folder, manifest in store.manifests("speed")}
    rows = [
        (row.label, load_measured(folder).aggregated, found[_run_identity(folder)])
        for row, folder in zip(table.rows, members, strict=True)
        if _run_identity(folder) in found
    ]
    if not rows:
        return
    measure = str(parse_measures(evaluation.measures)[0])
    names = list(dict.fromkeys(name for _, _, costs in rows for name in costs))
    lines = [f"| | {measure} | {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) + 1)}"]
    for label, measures, costs in rows:
        cells = [f"{costs[name]:,.4g}" if name in costs else "" for name in names]
        lines.append(f"| {label} | {measures[measure]:.4f} | {' | '.join(cells)} |")
    text = "\n".join(lines)
    (output / f"{stem}.speed.md").write_text(text + "\n", encoding="utf8")
    points = [Point(label, m[measure], c["ms_one_by_one"], c["bytes_per_document"]) for label, m, c in rows]
    plot_costs(points, measure, output / f"{stem}.speed.png")
    log.info("search costs\n\n%s\n\n%s\n", text, output / f"{stem}.speed.png")


def _run_identity(folder: Path) -> str:
    """The identity of the run that an artifact was made from."""
    return json.dumps(read_manifest(folder)["made_from"].get("artifact.run"), sort_keys=True)


def _everything(store: Store) -> list[Path]:
    """All measures: those of BM25 first, then by age, oldest first."""
    found = store.manifests("measures", is_opened=True)
    finished = {folder: manifest["provenance"]["finished"] for folder, manifest in found}
    return sorted(finished, key=lambda folder: (_model(folder) != "bm25", finished[folder]))


def _by_test(folders: Sequence[Path], evaluation: Evaluation) -> dict[str, list[Path]]:
    """Group measures by test set; leave out those that lack a requested column."""
    wanted = {str(measure) for measure in parse_measures(evaluation.measures)}
    groups: dict[str, list[Path]] = {}
    names: dict[str, str] = {}
    left_out = 0
    for folder in folders:
        if not wanted <= load_measured(folder).aggregated.keys():
            left_out += 1
            continue
        test = json.dumps(read_manifest(folder)["made_from"].get("dataset.test"), sort_keys=True)
        name = names.setdefault(test, _collection(folder))
        if name != _collection(folder):
            log.info("%s and %s have the same test set", name, _collection(folder))
        groups.setdefault(test, []).append(folder)
    if left_out:
        log.warning("%d results lack one of %s and are left out", left_out, ", ".join(sorted(wanted)))
    repeated = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {
        f"{names[test]}-{position}" if names[test] in repeated else names[test]: members
        for position, (test, members) in enumerate(groups.items(), 1)
    }


def _rows(folders: Sequence[Path], lineage: Lineage) -> list[Row]:
    names = [f"measures/{folder.name}" for folder in folders]
    return [
        Row(text, load_measured(folder), _artifacts(folder))
        for text, folder in zip(labels(names, lineage), folders, strict=True)
    ]


def _artifacts(folder: Path) -> dict[str, str]:
    configured: dict[str, Any] = read_manifest(folder)["provenance"]["configuration"]["artifact"]
    if digest_in(str(configured["run"])) is None:  # a given run was not made from artifacts
        configured = {kind: configured[kind] for kind in ("run", "measures")}
    return {
        kind: " ".join(name) if isinstance(name, list) else name
        for kind, name in configured.items()
        if name not in (None, "own") and kind != "speed"
    }


def _model(folder: Path) -> str:
    return folder.name.partition(".")[0]


def _collection(folder: Path) -> str:
    """The collection's name; with ".dev" if its development queries were searched, as by stage=tune."""
    dataset = read_manifest(folder)["provenance"]["configuration"]["dataset"]
    is_dev = dataset.get("dev") is not None and dataset["test"] == dataset["dev"]
    return folder.name.partition(".")[2].rpartition("-")[0] + ".dev" * is_dev
