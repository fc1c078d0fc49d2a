"""Labels of table rows: the name of the model or run, and the settings in which rows of the same name differ.

Labels are made from the recorded configurations, never from the typed overrides.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irexp.artifact.identity import digest_in
from irexp.artifact.lineage import Lineage, flatten

#: The parts of a configuration that decide a result, in the order in which a label names them.
PARTS = (
    *("backbone", "model", "index", "loss", "regularizer", "negatives", "teacher", "adapter", "training"),
    *("false_negatives", "optimizer", "schedule", "validation", "encoding", "search", "re_rank"),
    *("fuse", "score", "seed", "dataset"),
    *("artifact.initial", "artifact.examples", "artifact.checkpoint", "artifact.encoding", "artifact.index"),
    "artifact.run",
)

#: Parts whose option the first words of a label name already.
_IN_NAME = {"model", "re_rank", "fuse"}

#: Parts that decide nothing about a run without a checkpoint, such as one of BM25.
_OF_TRAINING = {
    *("backbone", "loss", "regularizer", "negatives", "teacher", "adapter", "training", "false_negatives"),
    *("optimizer", "schedule", "validation", "encoding"),
}

#: Characters of a number that is long.
_LONG = 8

#: The settings of a model that a collection may set.
_LENGTHS = ("query_length", "document_length")

_OTHER = object()

#: The words that begin a label; a path among them is shortened once all rows are known.
_Words = list[str | Path]


@dataclass(frozen=True)
class _Row:
    """The parts of a row's label: first words, ending (for an untrained model), chosen options, and settings."""

    words: _Words
    ending: str
    options: Mapping[str, str]
    settings: Mapping[str, Any]


def labels(
    names: Sequence[str], lineage: Lineage, *, without: Collection[str] = (), swept: Collection[str] = ()
) -> list[str]:
    """Labels for measures, each different from all others.

    Args:
        names: the names of the measures' artifacts.
        lineage: the store's; re-ranked and fused runs are looked up in it.
        without: keys that no label names.
        swept: keys that a label names wherever they differ, even if fewer would distinguish all rows.
    """
    rows = [_without(_row(name, lineage), without) for name in names]
    ends = shortest_ends(str(word) for row in rows for word in row.words if isinstance(word, Path))
    texts = ["".join(ends[str(word)] if isinstance(word, Path) else word for word in row.words) for row in rows]
    for differing in (_options, _settings):
        added = {
            position: words
            for text in dict.fromkeys(zip(texts, (row.ending for row in rows), strict=True))
            for position, words in differing(
                {n: row for n, row in enumerate(rows) if (texts[n], row.ending) == text}, swept
            ).items()
        }
        texts = [" ".join([text, *added.get(position, [])]) for position, text in enumerate(texts)]
    found = [text + row.ending for text, row in zip(texts, rows, strict=True)]
    return [
        text if found.count(text) == 1 else f"{text} ({name[-8:]})" for text, name in zip(found, names, strict=True)
    ]


def same_row(name: str, lineage: Lineage, *, level: int = 0) -> str:
    """A key that is equal for measures whose settings differ only in seed and collection.

    Args:
        name: the name of the measures' artifact.
        lineage: the store's.
        level: 1: only if the collection's settings, such as its training examples, are equal, too; 2: and all
            artifacts.
    """
    row = _row(name, lineage)
    provenance = lineage.manifests[name]["provenance"]
    given = {f"artifact.{kind}" for kind in provenance.get("given", []) if kind in ("checkpoint", "initial")}
    settings = {path: value for path, value in row.settings.items() if path != "seed"}
    if level < 2:
        settings = {p: value for p, value in settings.items() if not p.startswith("artifact.") or p in given}
    if level < 1:
        taken = {key: row.settings.get(f"dataset.{key}") for key in _LENGTHS}
        settings = {
            path: value
            for path, value in settings.items()
            if not path.startswith("dataset.") and taken.get(path.rpartition(".")[2], _OTHER) != value
        }
    return json.dumps([[str(word) for word in row.words], row.ending, settings], sort_keys=True, default=str)


def _without(row: _Row, keys: Collection[str]) -> _Row:
    options = {key: option for key, option in row.options.items() if key not in keys}
    return _Row(row.words, row.ending, options, {key: value for key, value in row.settings.items() if key not in keys})


def shortest_ends(paths: Iterable[str]) -> dict[str, str]:
    """The shortest end of each path that is the end of no other one.

    >>> list(shortest_ends(["a/one/model", "a/two/model", "their.run"]).values())
    ['one/model', 'two/model', 'their.run']
    """
    parts_of = {path: Path(path).parts for path in paths}
    ends = {}
    for path, parts in parts_of.items():
        others = [other for other in parts_of.values() if other != parts]
        lengths = range(1, len(parts) + 1)
        length = next((n for n in lengths if all(other[-n:] != parts[-n:] for other in others)), len(parts))
        ends[path] = str(Path(*parts[-length:])) if parts else path
    return ends


def _row(name: str, lineage: Lineage) -> _Row:
    provenance = lineage.manifests[name]["provenance"]
    run = provenance["configuration"]["artifact"].get("run")
    if run in lineage.manifests:  # a run that was given by its identifier has its own settings
        provenance = lineage.manifests[run]["provenance"]
    configuration = provenance["configuration"]
    words, ending = _description(configuration, lineage)
    is_untrainable = configuration["artifact"].get("checkpoint") is None
    settings = {
        path: value
        for part in PARTS
        if not (is_untrainable and part in _OF_TRAINING)
        for path, value in sorted(flatten(_part(configuration, part), part).items(), key=lambda item: _depth(item[0]))
        if not path.endswith((".name", "._partial_"))
    }
    options = {
        group: option
        for group, option in provenance.get("options", {}).items()
        if not (is_untrainable and group in _OF_TRAINING)
    }
    return _Row(words, ending, options, settings)


def _description(configuration: Mapping[str, Any], lineage: Lineage) -> tuple[_Words, str]:
    """A run's model and the runs that it re-ranks or fuses; and an ending if the model was not fine-tuned."""
    artifact = configuration["artifact"]
    if artifact.get("run") and digest_in(str(artifact["run"])) is None and artifact["run"] != "own":
        return [Path(str(artifact["run"]))], ""
    if runs := (configuration.get("fuse") or {}).get("runs"):
        names = _listed(artifact.get("fused"), len(runs))
        members = [_of_run(run, name, lineage) for run, name in zip(runs, names, strict=True)]
        joined = [word for member in members for word in (" + ", *member)]
        return [f"{configuration['fuse']['method']} of ", *joined[1:]], ""
    words: _Words = [str(configuration["model"]["name"])]
    checkpoint = artifact.get("checkpoint")
    is_given = checkpoint is not None and checkpoint != "own" and digest_in(str(checkpoint)) is None
    if is_given:
        words = [Path(str(checkpoint))]
    if (candidates := configuration["re_rank"]["candidates"]) is not None:
        is_shipped = isinstance(candidates, Mapping)
        others = ["scoreddocs"] if is_shipped else _of_run(candidates, artifact.get("candidates"), lineage)
        words += [" over ", *others]
    is_untrained = checkpoint is not None and not is_given and configuration["training"]["steps"] == 0
    return words, " before fine-tuning" if is_untrained else ""


def _of_run(entry: str | list[str], name: str | None, lineage: Lineage) -> _Words:
    """The description of another run: from its record if it is in the store, else its overrides or path."""
    if name in lineage.manifests:
        words, ending = _description(lineage.manifests[name]["provenance"]["configuration"], lineage)
        return [*words, ending]
    return [Path(entry) if isinstance(entry, str) else " ".join(entry).replace("model=", "")]


def _listed(names: Any, count: int) -> list[str | None]:
    return list(names) if isinstance(names, list) and len(names) == count else [None] * count


def _part(configuration: Mapping[str, Any], part: str) -> Any:
    found: Any = configuration
    for key in part.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _depth(path: str) -> int:
    return path.count(".")


def _options(rows: Mapping[int, _Row], swept: Collection[str]) -> dict[int, list[str]]:
    """The options of configuration groups in which rows of the same name differ."""
    groups = [group for group in PARTS if group not in _IN_NAME and any(group in row.options for row in rows.values())]
    return _distinguishing(
        {position: {group: row.options.get(group) for group in groups} for position, row in rows.items()}, swept
    )


def _settings(rows: Mapping[int, _Row], swept: Collection[str]) -> dict[int, list[str]]:
    """The values in which rows of the same name and options differ."""
    return _distinguishing({position: row.settings for position, row in rows.items()}, swept)


def _distinguishing(values: Mapping[int, Mapping[str, Any]], swept: Collection[str]) -> dict[int, list[str]]:
    """The swept keys that differ; then the first key that distinguishes all rows, else a few keys, with their values.

    An artifact that irexp made is named by a digest, which tells a reader nothing: it comes after all other keys.
    """
    keys = list(dict.fromkeys(key for row in values.values() for key in row))
    spelt_of = {key: _spelt(key, {position: row.get(key) for position, row in values.items()}) for key in keys}
    typed = [key for key in keys if not _is_made(key, values.values())]
    chosen: dict[int, list[str]] = {position: [] for position in values}
    for key in typed:
        if key in swept and _count(spelt_of[key]) > 1:
            chosen = _joined(chosen, spelt_of[key])
    for several in (typed, [key for key in keys if key not in typed]):
        alone = next((key for key in several if _count(_joined(chosen, spelt_of[key])) == len(values)), None)
        for key in several if alone is None else [alone]:
            with_key = _joined(chosen, spelt_of[key])
            if _count(chosen) < _count(with_key):
                chosen = with_key
    return chosen


def _joined(first: Mapping[int, list[str]], second: Mapping[int, list[str]]) -> dict[int, list[str]]:
    return {position: [*words, *second[position]] for position, words in first.items()}


def _is_made(key: str, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a key names an artifact that irexp made in one of the rows."""
    return key.startswith("artifact.") and any(digest_in(str(row.get(key))) is not None for row in rows)


def _count(words_of: Mapping[int, list[str]]) -> int:
    return len({tuple(words) for words in words_of.values()})


def _spelt(key: str, values: Mapping[int, Any]) -> dict[int, list[str]]:
    """The key with each row's value, if it has one; a class is shown by its name, a path by its end."""
    shown = _texts({position: value for position, value in values.items() if value is not None})
    if key.endswith("._target_"):
        key, shown = key.removesuffix("._target_"), {n: text.rpartition(".")[2] for n, text in shown.items()}
    elif key.startswith("artifact.") or key.endswith("path"):
        ends = shortest_ends(shown.values())
        shown = {position: ends[text] for position, text in shown.items()}
    return {position: [f"{key}={shown[position]}"] if position in shown else [] for position in values}


def _texts(values: Mapping[int, Any]) -> dict[int, str]:
    """The values as texts; long numbers are rounded to four digits if they stay distinct."""
    exact = {position: str(value) for position, value in values.items()}
    is_long = {n: isinstance(value, float) and len(exact[n]) > _LONG for n, value in values.items()}
    rounded = {n: str(float(f"{values[n]:.4g}")) if is_long[n] else text for n, text in exact.items()}
    return rounded if len(set(rounded.values())) == len(set(exact.values())) else exact
