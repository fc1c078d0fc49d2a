"""What the rows of a table are called: what each is, and the settings in which it differs from rows that are the same.

A label is made from the configurations behind the rows, never from what happened to be typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irexp.artifact.identity import digest_in
from irexp.artifact.lineage import Lineage, flatten

#: The parts of a configuration that decide a number, in the order in which a label names them.
_PARTS = (
    *("backbone", "model", "index", "loss", "regularizer", "negatives", "adapter", "training", "optimizer"),
    *("schedule", "encoding", "search", "re_rank", "fuse", "seed", "dataset", "artifact.checkpoint", "artifact.run"),
    "artifact.initial",
)

#: What the first words of a label say already.
_SAID = {"model", "dataset", "re_rank", "fuse"}


@dataclass(frozen=True)
class _Made:
    """What is known of a row: its first words, whether it is untrained, the chosen options, and the settings."""

    words: str
    ending: str
    options: Mapping[str, str]
    settings: Mapping[str, Any]


def labels(names: Sequence[str], lineage: Lineage) -> list[str]:
    """A label for each of some measures, all of them different.

    Args:
        names: the artifacts.
        lineage: the store, in which the runs that were re-ranked or fused are looked up.
    """
    rows = [_made(name, lineage) for name in names]
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


def _made(name: str, lineage: Lineage) -> _Made:
    provenance = lineage.manifests[name]["provenance"]
    configuration = provenance["configuration"]
    words, ending = phrase(configuration, lineage)
    settings = {
        path: value
        for part in _PARTS
        for path, value in flatten(_part(configuration, part), part).items()
        if not path.endswith((".name", "._partial_"))
    }
    return _Made(words, ending, provenance.get("options", {}), settings)


def phrase(configuration: Mapping[str, Any], lineage: Lineage) -> tuple[str, str]:
    """What a run is: its model and what that re-ranked or fused; and whether the model was not fine-tuned."""
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
    """What another run is: by its own record if it is here, else by the overrides or the path that name it."""
    if name in lineage.manifests:
        return "".join(phrase(lineage.manifests[name]["provenance"]["configuration"], lineage))
    return Path(entry).name if isinstance(entry, str) else " ".join(entry).replace("model=", "")


def _listed(names: Any, count: int) -> list[str | None]:
    return list(names) if isinstance(names, list) and len(names) == count else [None] * count


def _part(configuration: Mapping[str, Any], part: str) -> Any:
    found: Any = configuration
    for key in part.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _options(rows: Mapping[int, _Made]) -> dict[int, list[str]]:
    """The options of configuration groups in which rows of the same name differ."""
    groups = [group for group in _PARTS if group not in _SAID and any(group in row.options for row in rows.values())]
    return _telling({position: {group: row.options.get(group) for group in groups} for position, row in rows.items()})


def _settings(rows: Mapping[int, _Made]) -> dict[int, list[str]]:
    """The values in which rows of the same name and options differ."""
    return _telling({position: row.settings for position, row in rows.items()})


def _telling(values: Mapping[int, Mapping[str, Any]]) -> dict[int, list[str]]:
    """As few keys as tell rows apart, with their values; a class is called by its name."""
    told: dict[int, list[str]] = {position: [] for position in values}
    keys = list(dict.fromkeys(key for row in values.values() for key in row))
    for key in keys:
        if len({tuple(words) for words in told.values()}) == len(told):
            break
        with_key = {
            position: [*told[position], *([_spelt(key, row[key])] if row.get(key) is not None else [])]
            for position, row in values.items()
        }
        if len({tuple(words) for words in with_key.values()}) > len({tuple(words) for words in told.values()}):
            told = with_key
    return told


def _spelt(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"
