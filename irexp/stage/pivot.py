"""The place of each measured run in a table: its collection is the column, seeds are averaged, the rest is the row.

A collection is documents, queries and judgements. Two runs are of the same row if their recorded settings differ only
in seed and collection; on one collection, also the content of files must be the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irexp.artifact.identity import canonical, digest_in
from irexp.artifact.lineage import Lineage, flatten
from irexp.artifact.manifest import read_manifest
from irexp.artifact.plan import Placed
from irexp.evaluation.measures import Measured, load_measured
from irexp.evaluation.table import Result
from irexp.stage.label import labels, same_row
from irexp.types import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pivoted:
    """A result of a table, and the folder of its measures."""

    result: Result
    folder: Path


def pivot(placed: Iterable[Placed], lineage: Lineage, *, swept: Collection[str] = ()) -> list[Pivoted]:
    """Give every run that was measured its row and column; measures of the same run are taken once.

    Args:
        placed: measures; names of rows and columns that are given are kept.
        lineage: of the store that holds them.
        swept: keys that a row's label names wherever they differ.

    Raises:
        UserError: if a named column holds several collections, or a named row several experiments.
    """
    runs = by_run(list(placed))
    found = [measures[0] for measures in runs]
    columns = _columns(found, lineage)
    rows = _rows(found, columns, lineage, swept)
    return [
        Pivoted(
            Result(row, measured(same), _artifacts(same), column, _seed(same[0].folder)),
            same[0].folder,
        )
        for same, row, column in zip(runs, rows, columns, strict=True)
    ]


def by_run(placed: Sequence[Placed]) -> list[list[Placed]]:
    """The measures of each run on the same queries, which may be different ones.

    Of several, those that the latest version of stage=evaluate made are kept.
    """
    found: dict[str, list[Placed]] = {}
    for one in placed:
        key = _key([run_identity(one.folder), _queries(one.folder), one.row, one.column])
        found.setdefault(key, []).append(one)
    kept = []
    for same in found.values():
        latest = max(_version(one.folder) for one in same)
        kept.append([one for one in same if _version(one.folder) == latest])
    return kept


def measured(same: Sequence[Placed]) -> Measured:
    """All measures of one run."""
    first, *more = (load_measured(one.folder) for one in same)
    for other in more:
        first = replace(
            first,
            per_query={**other.per_query, **first.per_query},
            aggregated={**other.aggregated, **first.aggregated},
        )
    return first


def _queries(folder: Path) -> Any:
    """The queries and judgements of measures, as recorded; by default grades from 1 are relevant."""
    test = read_manifest(folder)["made_from"].get("dataset.test")
    if isinstance(test, dict) and test.get("relevance") == 1:
        return {key: value for key, value in test.items() if key != "relevance"}
    return test


def run_identity(folder: Path) -> str:
    """The identity of the run that an artifact was made from."""
    return _key(read_manifest(folder)["made_from"].get("artifact.run"))


def _columns(placed: Sequence[Placed], lineage: Lineage) -> list[str]:
    """The name of each one's column; collections of the same name are numbered."""
    keys = [_ranked(one.folder, lineage) for one in placed]
    first_of: dict[str, Placed] = {}
    for key, one in zip(keys, placed, strict=True):
        first_of.setdefault(key, one)
    names = {key: _collection(one.folder) for key, one in first_of.items()}
    for key, one in zip(keys, placed, strict=True):
        if one.column is None and (other := _collection(one.folder)) != names[key]:
            log.info("%s is the same collection as %s", other, names[key])
    titles: dict[str, str] = {}
    for key, name in names.items():
        number = 1 + sum(names[known] == name for known in titles)
        titles[key] = f"{name}-{number}" if list(names.values()).count(name) > 1 else name
    _check_named(placed, keys, titles)
    _log_differences({titles[key]: one for key, one in first_of.items() if one.column is None})
    return [one.column if one.column is not None else titles[key] for key, one in zip(keys, placed, strict=True)]


def _check_named(placed: Sequence[Placed], keys: Sequence[str], titles: dict[str, str]) -> None:
    """Refuse a named column that holds several collections."""
    for name in dict.fromkeys(one.column for one in placed if one.column is not None):
        held = dict.fromkeys(titles[key] for key, one in zip(keys, placed, strict=True) if one.column == name)
        if len(held) > 1:
            raise UserError(
                f"columns: {name!r} holds several collections ({', '.join(held)}), whose numbers cannot be compared; "
                "set the whole collection in the column, such as [dataset=vaswani], and none in the rows"
            )


def _rows(placed: Sequence[Placed], columns: Sequence[str], lineage: Lineage, swept: Collection[str]) -> list[str]:
    """The label of each one's row."""
    names = [f"measures/{one.folder.name}" for one in placed]
    keys = [one.row or same_row(name, lineage) for one, name in zip(placed, names, strict=True)]
    contents = [_content(name, lineage) for name in names]
    places = list(zip(columns, (_seed(one.folder) for one in placed), strict=True))
    for level, has_content in ((1, False), (1, True), (2, True)):
        crowded = _crowded(keys, places, contents)
        keys = [
            _key([same_row(name, lineage, level=level), *([content] if has_content else [])])
            if key in crowded and one.row is None
            else key
            for one, key, name, content in zip(placed, keys, names, contents, strict=True)
        ]
    differing = _crowded(keys, places, [_content(name, lineage, files=False) for name in names], differing=True)
    for one, key in zip(placed, keys, strict=True):
        if one.row is not None and key in differing:
            raise UserError(
                f"rows: {one.row!r} holds experiments on one collection that differ in more than their seeds; give "
                f"each its own row"
            )
    first_of: dict[str, str] = {}
    for one, key, name in zip(placed, keys, names, strict=True):
        if one.row is None:
            first_of.setdefault(key, name)
    found = labels(list(first_of.values()), lineage, without=("seed",), swept=swept)
    automatic = dict(zip(first_of, found, strict=True))
    return [automatic.get(key, key) if one.row is None else one.row for one, key in zip(placed, keys, strict=True)]


def _crowded(
    keys: Sequence[str], places: Sequence[tuple[str, int | None]], contents: Sequence[str], *, differing: bool = False
) -> set[str]:
    """The keys of which a column holds a seed twice, or experiments that differ in more than their seeds.

    Args:
        keys: of the rows.
        places: the column and the seed of each.
        contents: what each was made from, but for seeds.
        differing: whether a seed may be there twice, since the table's own check names it.
    """
    found: dict[tuple[str, str], list[tuple[int | None, str]]] = {}
    for key, (column, seed), content in zip(keys, places, contents, strict=True):
        found.setdefault((key, column), []).append((seed, content))
    return {
        key
        for (key, _), members in found.items()
        if len({content for _, content in members}) > 1
        or (not differing and len({seed for seed, _ in members}) < len(members))
    }


def _content(name: str, lineage: Lineage, *, files: bool = True) -> str:
    """What measures were made from, at any depth, without seeds, versions of stages, names and machines, as a key.

    Args:
        name: the name of the measures' artifact.
        lineage: the store's.
        files: whether the content of files counts, of which a named row may have one for each seed.
    """
    ends = ("seed", "content_version", "name", "digest", "processor", "gpu", *(() if files else ("content",)))
    settings = lineage.all_settings(name)
    return _key({path: value for path, value in settings.items() if path.rpartition(".")[2] not in ends})


def _ranked(folder: Path, lineage: Lineage) -> str:
    """The documents, queries and judgements that were used, as a key."""
    manifest = read_manifest(folder)
    documents = lineage.documents(f"measures/{folder.name}")
    if not documents:  # a given run is over the documents that were configured with it
        configured = manifest["provenance"]["configuration"]["dataset"]["documents"]
        documents = [canonical(configured, key="dataset.documents")]
    return _key([documents, _queries(folder)])


def _log_differences(first_of: dict[str, Placed]) -> None:
    """Say in which settings collections of the same name differ."""
    for name in dict.fromkeys(_collection(one.folder) for one in first_of.values()):
        same = {title: one for title, one in first_of.items() if _collection(one.folder) == name}
        flat = [flatten(_dataset(one.folder), "dataset") for one in same.values()]
        keys = [key for key in flat[0] if any(other.get(key) != flat[0][key] for other in flat)]
        for title, settings in zip(same, flat, strict=True) if len(same) > 1 else ():
            first = [key for key in keys if key.count(".") == min(other.count(".") for other in keys)]
            shown = ", ".join(f"{key}={settings.get(key)}" for key in first) or "other content in its files"
            log.warning("other documents, queries or judgements, so another column: %s has %s", title, shown)


def _artifacts(same: Sequence[Placed]) -> dict[str, str]:
    configured: dict[str, Any] = _configuration(same[0].folder)["artifact"]
    if len(same) > 1:
        configured = {**configured, "measures": [f"measures/{one.folder.name}" for one in same]}
    if digest_in(str(configured["run"])) is None:  # a given run was not made from artifacts
        configured = {kind: configured[kind] for kind in ("run", "measures")}
    return {
        kind: " ".join(name) if isinstance(name, list) else name
        for kind, name in configured.items()
        if name not in (None, "own") and kind != "speed"
    }


def _collection(folder: Path) -> str:
    """The collection's name; with ".dev" if its development queries were searched, as by stage=tune."""
    dataset = _dataset(folder)
    is_dev = dataset.get("dev") is not None and dataset["test"] == dataset["dev"]
    return folder.name.partition(".")[2].rpartition("-")[0] + ".dev" * is_dev


def _seed(folder: Path) -> int | None:
    seed: int | None = _configuration(folder).get("seed")
    return seed


def _dataset(folder: Path) -> dict[str, Any]:
    dataset: dict[str, Any] = _configuration(folder)["dataset"]
    return dataset


def _configuration(folder: Path) -> dict[str, Any]:
    configuration: dict[str, Any] = read_manifest(folder)["provenance"]["configuration"]
    return configuration


def _version(folder: Path) -> int:
    version: int = read_manifest(folder)["made_from"]["content_version"]
    return version


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
