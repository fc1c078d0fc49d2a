"""The stage that makes a table per test collection: of an experiment and its baselines, or of all measures.

A table holds runs over the same documents, queries and judgements, each run once. A row's label says
how it differs from the others (`irexp.stage.label`); the artifacts of each row are listed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irexp.artifact.identity import canonical, digest_in
from irexp.artifact.lineage import Lineage, flatten
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
    lineage = Lineage(Store(Path(artifacts)))
    groups = _by_collection(folders, evaluation, lineage)
    if not groups:
        raise UserError(
            f"none of the {len(folders)} results in {Path(artifacts).resolve()} has all of "
            f"{', '.join(evaluation.measures)}; choose the evaluation that they were made with"
        )
    tables = {}
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
    return _key(read_manifest(folder)["made_from"].get("artifact.run"))


def _everything(store: Store) -> list[Path]:
    """All measures: those of BM25 first, then by age, oldest first."""
    found = store.manifests("measures", is_opened=True)
    finished = {folder: manifest["provenance"]["finished"] for folder, manifest in found}
    return sorted(finished, key=lambda folder: (_model(folder) != "bm25", finished[folder]))


def _by_collection(folders: Sequence[Path], evaluation: Evaluation, lineage: Lineage) -> dict[str, list[Path]]:
    """Group measures by documents, queries and judgements, one per run; leave out those that lack a requested column.

    Returns:
        The groups by the collection's name; collections of the same name are numbered.
    """
    wanted = {str(measure) for measure in parse_measures(evaluation.measures)}
    complete = [folder for folder in folders if wanted <= load_measured(folder).aggregated.keys()]
    if left_out := len(folders) - len(complete):
        log.warning("%d results lack one of %s and are left out", left_out, ", ".join(sorted(wanted)))
    groups: dict[str, list[Path]] = {}
    for folder in one_per_run(complete):
        groups.setdefault(_ranked(folder, lineage), []).append(folder)
    names = [_collection(members[0]) for members in groups.values()]
    named: dict[str, list[Path]] = {}
    for name, members in zip(names, groups.values(), strict=True):
        if others := sorted({_collection(folder) for folder in members} - {name}):
            log.info("%s is the same collection as %s", ", ".join(others), name)
        number = 1 + sum(known.rpartition("-")[0] == name for known in named)
        named[f"{name}-{number}" if names.count(name) > 1 else name] = members
    _log_differences(named, names)
    return named


def one_per_run(folders: Sequence[Path]) -> list[Path]:
    """The measures without further ones of the same run on the same queries, such as those of other measures.

    Of several, those that the latest version of stage=evaluate made are kept, else the first.
    """
    kept: dict[str, Path] = {}
    for folder in folders:
        key = _run_identity(folder) + _key(read_manifest(folder)["made_from"].get("dataset.test"))
        if key not in kept or _version(folder) > _version(kept[key]):
            kept[key] = folder
    return list(kept.values())


def _ranked(folder: Path, lineage: Lineage) -> str:
    """The documents, queries and judgements that were used, as a key."""
    manifest = read_manifest(folder)
    documents = lineage.documents(f"measures/{folder.name}")
    if not documents:  # a given run is over the documents that were configured with it
        configured = manifest["provenance"]["configuration"]["dataset"]["documents"]
        documents = [canonical(configured, key="dataset.documents")]
    return _key([documents, manifest["made_from"].get("dataset.test")])


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _version(folder: Path) -> int:
    version: int = read_manifest(folder)["made_from"]["content_version"]
    return version


def _log_differences(named: dict[str, list[Path]], names: Sequence[str]) -> None:
    """Say in which settings collections of the same name differ."""
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        same = [title for title in named if title.rpartition("-")[0] == name]
        flat = [flatten(_dataset(named[title][0]), "dataset") for title in same]
        keys = [key for key in flat[0] if any(other.get(key) != flat[0][key] for other in flat)]
        for title, settings in zip(same, flat, strict=True):
            first = [key for key in keys if key.count(".") == min(other.count(".") for other in keys)]
            shown = ", ".join(f"{key}={settings.get(key)}" for key in first) or "other content in its files"
            log.warning("other documents, queries or judgements, so another table: %s has %s", title, shown)


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
    dataset = _dataset(folder)
    is_dev = dataset.get("dev") is not None and dataset["test"] == dataset["dev"]
    return folder.name.partition(".")[2].rpartition("-")[0] + ".dev" * is_dev


def _dataset(folder: Path) -> dict[str, Any]:
    dataset: dict[str, Any] = read_manifest(folder)["provenance"]["configuration"]["dataset"]
    return dataset
