"""Labels of table rows: the name of the model or run, and the settings in which rows of the same name differ.

Labels are made from the recorded configurations, never from the typed overrides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irexp.artifact.identity import digest_in
from irexp.artifact.lineage import Lineage, flatten

#: The parts of a configuration that decide a result, in the order in which a label names them.
_PARTS = (
    *("backbone", "model", "index", "loss", "regularizer", "negatives", "adapter", "training", "optimizer"),
    *("schedule", "encoding", "search", "re_rank", "fuse", "seed", "dataset", "artifact.checkpoint", "artifact.run"),
    "artifact.initial",
)

#: Parts that the first words of a label name already.
_IN_NAME = {"model", "dataset", "re_rank", "fuse"}


@dataclass(frozen=True)
class _Row:
    """The parts of a row's label: first words, ending (for an untrained model), chosen options, and settings."""

    words: str
    ending: str
    options: Mapping[str, str]
    settings: Mapping[str, Any]


def labels(names: Sequence[str], lineage: Lineage) -> list[str]:
    """Labels for measures, each different from all others.

    Args:
        names: the names of the measures' artifacts.
        lineage: the store's; re-ranked and fused runs are looked up in it.
    """
    rows = [_row(name, lineage) for name in names]
    texts = [row.words for row in rows]
    for differing in (_options, _settings):
        added = {
            position: words
            for text in dict.fromkeys(zip(texts, (row.ending for row in rows), strict=True))
            for position, words in differing(
                {n: row for n, row in enumerate(rows) if (texts[n], row.ending) == text}
            ).items()
        }
        texts = [" ".join([text, *added.get(position, [])]) for position, text in enumerate(texts)]
    found = [text + row.ending for text, row in zip(texts, rows, strict=True)]
    return [
        text if found.count(text) == 1 else f"{text} ({name[-8:]})" for text, name in zip(found, names, strict=True)
    ]


def _row(name: str, lineage: Lineage) -> _Row:
    provenance = lineage.manifests[name]["provenance"]
    configuration = provenance["configuration"]
    words, ending = description(configuration, lineage)
    settings = {
        path: value
        for part in _PARTS
        for path, value in flatten(_part(configuration, part), part).items()
        if not path.endswith((".name", "._partial_"))
    }
    return _Row(words, ending, provenance.get("options", {}), settings)


def description(configuration: Mapping[str, Any], lineage: Lineage) -> tuple[str, str]:
    """A run's model and the runs that it re-ranks or fuses; and an ending if the model was not fine-tuned."""
    artifact = configuration["artifact"]
    if artifact.get("run") and digest_in(str(artifact["run"])) is None and artifact["run"] != "own":
        return Path(str(artifact["run"])).name, ""
    if runs := (configuration.get("fuse") or {}).get("runs"):
        names = _listed(artifact.get("fused"), len(runs))
        members = [_of_run(run, name, lineage) for run, name in zip(runs, names, strict=True)]
        return f"{configuration['fuse']['method']} of {' + '.join(members)}", ""
    name = str(configuration["model"]["name"])
    checkpoint = artifact.get("checkpoint")
    is_given = checkpoint is not None and checkpoint != "own" and digest_in(str(checkpoint)) is None
    if is_given:
        name = Path(str(checkpoint)).name
    if (candidates := configuration["re_rank"]["candidates"]) is not None:
        name += f" over {_of_run(candidates, artifact.get('candidates'), lineage)}"
    is_untrained = checkpoint is not None and not is_given and configuration["training"]["steps"] == 0
    return name, " before fine-tuning" if is_untrained else ""


def _of_run(entry: str | list[str], name: str | None, lineage: Lineage) -> str:
    """The description of another run: from its record if it is in the store, else its overrides or path."""
    if name in lineage.manifests:
        return "".join(description(lineage.manifests[name]["provenance"]["configuration"], lineage))
    return Path(entry).name if isinstance(entry, str) else " ".join(entry).replace("model=", "")


def _listed(names: Any, count: int) -> list[str | None]:
    return list(names) if isinstance(names, list) and len(names) == count else [None] * count


def _part(configuration: Mapping[str, Any], part: str) -> Any:
    found: Any = configuration
    for key in part.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _options(rows: Mapping[int, _Row]) -> dict[int, list[str]]:
    """The options of configuration groups in which rows of the same name differ."""
    groups = [group for group in _PARTS if group not in _IN_NAME and any(group in row.options for row in rows.values())]
    return _distinguishing(
        {position: {group: row.options.get(group) for group in groups} for position, row in rows.items()}
    )


def _settings(rows: Mapping[int, _Row]) -> dict[int, list[str]]:
    """The values in which rows of the same name and options differ."""
    return _distinguishing({position: row.settings for position, row in rows.items()})


def _distinguishing(values: Mapping[int, Mapping[str, Any]]) -> dict[int, list[str]]:
    """A few keys that distinguish rows, with their values; a class is shown by its name."""
    chosen: dict[int, list[str]] = {position: [] for position in values}
    keys = list(dict.fromkeys(key for row in values.values() for key in row))
    for key in keys:
        if len({tuple(words) for words in chosen.values()}) == len(chosen):
            break
        with_key = {
            position: [*chosen[position], *([_spelt(key, row[key])] if row.get(key) is not None else [])]
            for position, row in values.items()
        }
        if len({tuple(words) for words in with_key.values()}) > len({tuple(words) for words in chosen.values()}):
            chosen = with_key
    return chosen


def _spelt(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"
