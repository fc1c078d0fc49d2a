"""What an artifact is a digest of.

An artifact is named after exactly the configuration that determines its content, and later identities contain earlier
ones: `run/sbert.vaswani-4ac238f2` is the run of one index, of one encoding, of one checkpoint. `MADE_FROM` is the
whole design; what is absent there (paths, logger, and of the machine all that changes no result) moves no identity.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from irexp.artifact.content import content_digest, existing_file, hub_revision
from irexp.artifact.provenance import processor

#: What each kind is made from, as paths into the configuration. The path of another artifact stands for all that it
#: is made from in turn. No ingredient may live under `stage`. What an engine is searched with, its `search` settings at
#: any depth, is `index.search`; `index` is what it is built with.
MADE_FROM: dict[str, tuple[str, ...]] = {
    "checkpoint": (
        "seed",
        "model",
        "loss",
        "regularizer",
        "adapter",
        "dataset.documents",
        "dataset.train",
        "dataset.dev",
        "artifact.negatives",
        "negatives",
        "training",
        "optimizer",
        "schedule",
    ),
    "encoding": ("artifact.checkpoint", "model", "dataset.documents", "encoding"),
    "index": ("artifact.encoding", "dataset.documents", "index"),
    "run": ("artifact.index", "index.search", "artifact.checkpoint", "model", "dataset.test", "search"),
    "measures": ("artifact.run", "dataset.test", "evaluation.measures"),
    "speed": ("artifact.run", "machine.accelerator", "machine.threads"),
}

#: What a run is made from when another one is re-ranked.
RE_RANKED = ("artifact.candidates", "artifact.checkpoint", "model", "dataset.documents", "dataset.test", "re_rank")

#: What a run is made from when others are fused.
FUSED = ("artifact.fused", "artifact.fused_dev", "dataset.test", "fuse")

#: Raised by hand when the code that makes a kind changes what it makes, so that nothing stale is used.
CONTENT_VERSION = {"checkpoint": 2, "encoding": 3, "index": 2, "run": 4, "measures": 1, "speed": 2}

#: Keys that are for people or for Hydra and say nothing about content.
_NOT_CONTENT = {"name", "_partial_", "_convert_", "_recursive_"}

#: What of an ingredient enters otherwise: runs of others by their digests, and how long a query is read with the
#: checkpoint that learned it, or not at all, where documents are encoded; how results are measured with the measures.
_ENTERS_ELSEWHERE = {
    ("run", "re_rank"): ("candidates",),
    ("checkpoint", "negatives"): ("candidates",),
    ("run", "fuse"): ("runs", "dev_runs"),
    ("encoding", "model"): ("query_length",),
    ("run", "dataset.test"): ("relevance", "remove_query"),
}

_IDENTIFIER = re.compile(rf"({'|'.join(MADE_FROM)})/(.+)-([0-9a-f]{{8}})")


@dataclass(frozen=True)
class Identity:
    """What an artifact is made from, and the name that follows from it.

    Attributes:
        kind: one of `MADE_FROM`.
        name: `kind/model.dataset-digest`, the folder below the artifacts' root.
        made_from: the ingredients; other artifacts enter by their digest.
        lineage: the same with the ingredients of those artifacts spelled out, as far as they are known.
    """

    kind: str
    name: str
    made_from: dict[str, Any]
    lineage: dict[str, Any]


def identify(config: DictConfig, kind: str) -> Identity:
    """The identity of the artifact that a configuration makes, whether or not it is there yet."""
    made_from: dict[str, Any] = {"content_version": CONTENT_VERSION[kind]}
    lineage: dict[str, Any] = {}
    for path in _ingredients(config, kind):
        if path.startswith("artifact."):
            made_from[path], lineage[path] = _artifact_ingredient(config, path.removeprefix("artifact."))
        else:
            value = _select(config, path)
            if (elsewhere := _ENTERS_ELSEWHERE.get((kind, path))) and isinstance(value, dict):
                value = {key: item for key, item in value.items() if key not in elsewhere}
            made_from[path] = lineage[path] = canonical(value, key=path)
    if kind == "speed":
        made_from["processor"] = lineage["processor"] = processor()
    made_from = {path: value for path, value in made_from.items() if value not in (None, {})}
    lineage = {path: value for path, value in lineage.items() if value not in (None, {})}
    subject = f"{_for_people(config, 'model.name')}.{_for_people(config, 'dataset.name')}"
    return Identity(kind, f"{kind}/{subject}-{digest_of(made_from)}", made_from, lineage)


def _ingredients(config: DictConfig, kind: str) -> tuple[str, ...]:
    """The paths of what a kind is made from; a model that is not trained is made from no data and no loss."""
    if kind == "checkpoint" and OmegaConf.select(config, "training.steps") == 0:
        return ("seed", "model")
    if kind == "run" and is_fusing(config):
        return (*FUSED, "dataset.dev") if config.artifact.fused_dev is not None else FUSED
    if kind == "run" and is_re_ranking(config):
        return RE_RANKED
    return MADE_FROM[kind]


def is_fusing(config: DictConfig) -> bool:
    """Whether the run is several others, fused."""
    return OmegaConf.select(config, "fuse.runs") is not None


def is_re_ranking(config: DictConfig) -> bool:
    """Whether the run is another one, re-ranked, rather than what an index finds."""
    return OmegaConf.select(config, "re_rank.candidates") is not None


def digest_of(made_from: dict[str, Any]) -> str:
    """Eight hexadecimal digits of SHA-256 over sorted JSON; `Store.has` compares the ingredients in full."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]


def digest_in(name: str) -> str | None:
    """The digest at the end of an identifier; None if this is not one."""
    match = _IDENTIFIER.fullmatch(name)
    return match.group(3) if match else None


def is_made_here(config: DictConfig, kind: str) -> bool:
    """Whether this configuration makes the artifact, rather than being handed one (`artifact.checkpoint=<path>`)."""
    value = OmegaConf.to_container(config.artifact, resolve=False)[kind]  # type: ignore[index, call-overload]
    return isinstance(value, str) and value.startswith("${artifact:")


def locate(value: str, root: Path) -> Path | None:
    """Where an artifact's value lies: below the artifacts' root, else a path as typed, else nowhere on this machine."""
    return next((path for path in (root / value, Path(value).expanduser()) if path.exists()), None)


def canonical(value: Any, *, key: str = "") -> Any:
    """What of a configuration value determines content.

    Nulls are dropped, so that a new option which defaults to null leaves old digests alone; a `_target_` enters by
    class name, so that moving a module keeps artifacts; a local file or folder (a key that is `path` or ends in
    `_path`) enters by the digest of its content, a hub model by its revision; 1.0 equals 1.
    """
    if isinstance(value, dict):
        kept = {k: canonical(v, key=k) for k, v in value.items() if k not in _NOT_CONTENT and v is not None}
        if "_target_" in kept:
            kept["_target_"] = str(kept["_target_"]).rpartition(".")[2]
        if "revision" not in kept and (revision := hub_revision(value.get("name_or_path"))):
            kept["revision"] = revision
        return kept
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, str) and (key == "path" or key.endswith("_path")):
        file = existing_file(Path(value).expanduser())
        return {"content": content_digest(file)} if file else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _select(config: DictConfig, path: str) -> Any:
    if path in ("index", "index.search"):
        return _of_engine(_select_whole(config, "index"), is_search=path == "index.search")
    return _select_whole(config, path)


def _of_engine(value: Any, *, is_search: bool) -> Any:
    """The settings of an engine without its `search` settings, or only these."""
    if not isinstance(value, dict):
        return None if is_search else value
    inner = {key: _of_engine(item, is_search=is_search) for key, item in value.items() if key != "search"}
    if not is_search:
        return inner
    found = {key: item for key, item in inner.items() if item}
    return found | {"search": value["search"]} if "search" in value else found


def _select_whole(config: DictConfig, path: str) -> Any:
    value = OmegaConf.select(config, path)
    if isinstance(value, DictConfig):
        return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_list(value) else value


def _artifact_ingredient(config: DictConfig, kind: str) -> tuple[Any, Any]:
    """What another artifact contributes: its digest, and its own lineage for people."""
    if is_made_here(config, kind):
        identity = identify(config, kind)
        return {"digest": digest_of(identity.made_from)}, identity.lineage
    value = config.artifact[kind]
    if value is None:
        return None, None
    if isinstance(value, list | ListConfig):
        found = [_named_ingredient(config, str(item)) for item in value]
        return [entry for entry, _ in found], [lineage for _, lineage in found]
    return _named_ingredient(config, str(value))


def _named_ingredient(config: DictConfig, value: str) -> tuple[Any, Any]:
    """What an artifact contributes that is named by an identifier, a path or a hub name."""
    if digest := digest_in(value):
        return {"digest": digest}, {"name": value}
    path = locate(value, Path(config.paths.artifacts))
    if path is None:
        entry = {"hub": value, "revision": hub_revision(value)}
    elif (manifest := path / "manifest.json").is_file():
        recorded = json.loads(manifest.read_text(encoding="utf8"))
        return {"digest": digest_of(recorded["made_from"])}, recorded["lineage"]
    else:
        entry = {"content": content_digest(path)}
    return entry, {"name": value, **entry}


def _for_people(config: DictConfig, path: str) -> str:
    """A name as it may stand in a folder's name."""
    return re.sub(r"[^A-Za-z0-9_+]+", "_", str(OmegaConf.select(config, path) or "any")).strip("_")
