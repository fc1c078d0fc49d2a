"""Identities: an artifact's name ends in a digest of exactly the configuration that determines its content.

Later identities contain earlier ones: `run/sbert.vaswani-4ac238f2` is the run of one index, of one encoding, of one
checkpoint. `irexp.artifact.stages` lists the settings and inputs that enter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from irexp.artifact.code import code_of
from irexp.artifact.content import content_digest, digest_of, existing_file, exists, hub_revision, is_hub_name
from irexp.artifact.hardware import usable_gpu
from irexp.artifact.manifest import MANIFEST, read_manifest
from irexp.artifact.provenance import processor
from irexp.artifact.spec import Own, Setting, StageSpec
from irexp.artifact.stages import KINDS
from irexp.artifact.values import Values, select
from irexp.artifact.wiring import Elsewhere, Node
from irexp.config.packages import is_declared

#: Keys for display or for Hydra, which do not affect content; unless a mapping has something of such a name.
_NOT_CONTENT = {"name", "_partial_", "_convert_", "_recursive_"}

#: Classes of irexp that once made something else of the same settings; raised by hand, as the versions of stages are.
_VERSIONS = {
    "FileExamples": 2,
    "HardNegativeExamples": 2,
    "MixedExamples": 2,
    "RunExamples": 2,
    "TextFileExamples": 2,
}

#: Characters of each of the two names in the name of a folder, which may have 255.
_LONGEST = 100

_IDENTIFIER = re.compile(rf"({'|'.join(KINDS)})/(.+)-([0-9a-f]{{8}})")


@dataclass(frozen=True)
class Identity:
    """What an artifact is made from, and the name that follows from it.

    Attributes:
        kind: one of `KINDS`.
        name: `kind/model.dataset-digest`, the folder below the artifacts' root.
        made_from: the settings and inputs; inputs enter by their digests.
        lineage: the same, but with the settings and inputs of every input in full, as far as known.
    """

    kind: str
    name: str
    made_from: dict[str, Any]
    lineage: dict[str, Any]

    @cached_property
    def entry(self) -> dict[str, Any]:
        """Its entry in the identity of an artifact that is made from it."""
        return {"digest": digest_of(self.made_from)}


@dataclass(frozen=True)
class Given:
    """An artifact that the experiment does not make: an identifier, a path or a hub name was given.

    Attributes:
        kind: what it is used as.
        name: an identifier, a path, or the name of a hub model, as it is recorded and shown.
        value: the same, with what is taken from the environment.
        typed: the setting that names it.
        path: its path; None if it is not on this machine.
        is_missing: whether it is neither on this machine nor a possible hub model; False for an identifier.
        entry: its entry in the identity of an artifact that is made from it.
        lineage: how it was made, as far as known.
    """

    kind: str
    name: str
    value: str
    typed: str
    path: Path | None
    is_missing: bool
    entry: dict[str, Any]
    lineage: dict[str, Any]


def identify(nodes: Sequence[Node]) -> dict[Node, Identity | Given | None]:
    """The identity of each node's artifact, whether or not it exists yet; None for a stage that makes none.

    Args:
        nodes: inputs before their users.
    """
    found: dict[Node, Identity | Given | None] = {}
    for node in nodes:
        if isinstance(node.origin, Elsewhere):
            found[node] = identify_given(node.origin, node.experiment.root)
        elif node.origin.makes is None:
            found[node] = None
        else:
            found[node] = _identify_made(node, node.origin, found)
    return found


def _identify_made(node: Node, stage: StageSpec, found: Mapping[Node, Identity | Given | None]) -> Identity:
    values, recorded = node.experiment.values, node.experiment.recorded
    made_from: dict[str, Any] = {"content_version": stage.version + stage.is_raised(values)}
    lineage: dict[str, Any] = {}
    for name, inputs in node.inputs.items():
        source = stage.inputs[name]
        if inputs is None or (isinstance(source, Own) and not source.decides):
            continue
        several = inputs if isinstance(inputs, tuple) else (inputs,)
        parts = [part for part in map(found.__getitem__, several) if part is not None]
        entries, lineages = [part.entry for part in parts], [part.lineage for part in parts]
        is_several = isinstance(inputs, tuple)
        made_from[f"artifact.{name}"] = entries if is_several else entries[0]
        lineage[f"artifact.{name}"] = lineages if is_several else lineages[0]
    settings = settings_of(stage, values, recorded)
    made_from |= settings
    lineage |= settings
    subject = f"{_model_name(node, stage)}.{_folder_name(recorded, 'dataset.name')}"
    assert stage.makes is not None
    return Identity(stage.makes, f"{stage.makes}/{subject}-{digest_of(made_from)}", made_from, lineage)


def settings_of(stage: StageSpec, values: Values, recorded: Values) -> dict[str, Any]:
    """The settings that enter the identity of what a stage makes, by their paths.

    Args:
        stage: the stage.
        values: of the experiment, resolved.
        recorded: the same with `${oc.env:NAME}` as written.
    """
    found = {setting.path: _content_of(setting, values, recorded) for setting in stage.settings if setting.when(values)}
    return {path: value for path, value in found.items() if value not in (None, {})}


def identify_given(origin: Elsewhere, root: Path) -> Given:
    """A given artifact, identified by its digest, its content, or its revision on the hub.

    Args:
        origin: its kind, its value, and the setting that names it.
        root: the root folder of the artifacts, below which identifiers are searched.

    Raises:
        DamagedArtifactError: if it has a manifest that cannot be read.
    """
    kind, value, typed, shown = origin
    path = locate(value, root)
    if digest := digest_in(value):
        return Given(kind, shown, value, typed, path, False, {"digest": digest}, {"name": shown})
    is_missing = path is None and (kind != "checkpoint" or not is_hub_name(value))
    entry: dict[str, Any]
    if path is None:
        entry = {"hub": canonical(value, recorded=shown), "revision": hub_revision(value)}
    elif (path / MANIFEST).is_file():
        recorded = read_manifest(path)
        entry, lineage = {"digest": digest_of(recorded["made_from"])}, recorded["lineage"]
        return Given(kind, shown, value, typed, path, False, entry, lineage)
    else:
        entry = {"content": content_digest(path)}
    return Given(kind, shown, value, typed, path, is_missing, entry, {"name": shown, **entry})


def digest_in(name: str) -> str | None:
    """The digest at the end of an identifier; None if the name is not an identifier."""
    match = _IDENTIFIER.fullmatch(name)
    return match.group(3) if match else None


def locate(value: str, root: Path) -> Path | None:
    """The path of a given artifact: below the root, else as typed; None if neither exists."""
    return next((path for path in (root / value, Path(value).expanduser()) if exists(path)), None)


def canonical(value: Any, *, key: str = "", recorded: Any = None) -> Any:
    """The part of a configuration value that determines content.

    Nulls are dropped, so that a new option which defaults to null leaves old digests alone; a `_target_` enters by
    class name, so that moving a module keeps artifacts, and one of a declared package by its path and version; a local
    file or folder (a key that is `path` or ends in `_path`) enters by the digest of its content, a hub model by its
    revision; 1.0 equals 1; a text from the environment enters by its digest, since it may be a secret.

    Args:
        value: resolved.
        key: its own key.
        recorded: the same value with `${oc.env:NAME}` as written.
    """
    if isinstance(value, dict):
        shown = recorded if isinstance(recorded, dict) else {}
        kept = {
            k: canonical(v, key=k, recorded=shown.get(k))
            for k, v in value.items()
            if (k not in _NOT_CONTENT or isinstance(v, dict)) and v is not None
        }
        if "_target_" in kept:
            target = str(kept["_target_"])
            kept["_target_"] = f"{target} of {code_of(target)}" if is_declared(target) else _versioned(target)
        if "revision" not in kept and (revision := hub_revision(value.get("name_or_path"))):
            kept["revision"] = revision
        return kept
    if isinstance(value, list):
        items = recorded if isinstance(recorded, list) else [None] * len(value)
        return [canonical(item, recorded=shown) for item, shown in zip(value, items, strict=True)]
    if isinstance(value, str) and (key == "path" or key.endswith("_path")):
        file = existing_file(Path(value).expanduser())
        if file is not None:
            return {"content": content_digest(file)}
    if isinstance(value, str) and isinstance(recorded, str) and "${" in recorded and recorded != value:
        return f"from the environment, sha256 {hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]}"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _versioned(target: str) -> str:
    """The name of a class of irexp, with its version if that is above 1."""
    name = target.rpartition(".")[2]
    return f"{name} {_VERSIONS[name]}" if target.startswith("irexp.") and name in _VERSIONS else name


def _content_of(setting: Setting, values: Values, recorded: Values) -> Any:
    """The part of a setting that determines content."""
    if setting.path == "processor":
        return processor()
    if setting.path == "gpu":  # `machine.accelerator=auto` is the same on machines with different ones
        return usable_gpu() if select(values, "machine.accelerator") in ("auto", "gpu") else None
    ignored = setting.ignored(values)
    kept, shown = (_kept(setting, found, ignored) for found in (values, recorded))
    return canonical(kept, key=setting.path, recorded=shown)


def _kept(setting: Setting, values: Values, ignored: Mapping[str, Any]) -> Any:
    """The value of a setting, without the keys that enter elsewhere or not at all; ignored ones have one value."""
    if setting.path in ("index", "index.search"):
        value = _of_engine(values["index"], is_search=setting.path == "index.search")
    else:
        value = select(values, setting.path)
    if setting.without and isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in setting.without}
    return value | ignored if ignored else value


def _of_engine(value: Any, *, is_search: bool) -> Any:
    """The settings of an engine without its `search` settings, or only these."""
    if not isinstance(value, dict):
        return None if is_search else value
    inner = {key: _of_engine(item, is_search=is_search) for key, item in value.items() if key != "search"}
    if not is_search:
        return inner
    found = {key: item for key, item in inner.items() if item}
    return found | {"search": value["search"]} if "search" in value else found


def _model_name(node: Node, stage: StageSpec) -> str:
    """The name of the experiment's model; negatives that are mined have that of the runs which found them."""
    runs = node.inputs.get("candidates") if stage.makes == "examples" else None
    made = [run for run in (runs if isinstance(runs, tuple) else ()) if isinstance(run.origin, StageSpec)]
    names = [_folder_name(run.experiment.recorded, "model.name") for run in made]
    return "+".join(dict.fromkeys(names))[:_LONGEST] or _folder_name(node.experiment.recorded, "model.name")


def _folder_name(values: Values, path: str) -> str:
    """A configured name, reduced to the characters and the length that a folder's name may have."""
    return re.sub(r"[^A-Za-z0-9_+]+", "_", str(select(values, path)))[:_LONGEST].strip("_") or "any"
