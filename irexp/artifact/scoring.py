"""How a model scores: as its class says, and as the files of a checkpoint say, without loading anything.

A checkpoint of another family than the configured one may be meant, such as a DPR that is opened by model=sbert. One
that scores in another way is not: its encodings do not fit the index, and its run would bear another model's name.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from irexp.artifact.manifest import MANIFEST, read_manifest
from irexp.artifact.values import Values
from irexp.config.installation import CONF
from irexp.config.packages import is_in, packages_of_components
from irexp.config.source import read
from irexp.config.target import NoTargetError, constant, fills, target_of

_MODEL, _CROSS_ENCODER = "irexp.model.model.Model", "irexp.model.cross_encoder.CrossEncoder"

_WORDS = {
    "dense": "one dense vector per text",
    "sparse": "one sparse vector per text",
    "tokens": "one vector per token",
    "pairs": "scores of pairs of query and document",
}

#: The families that sentence-transformers' and PyLate's lists of modules are opened as, by how they score.
_LISTED = {
    "dense": "irexp.model.dense.DenseBiEncoder",
    "sparse": "irexp.model.splade.SPLADE",
    "tokens": "irexp.model.colbert.ColBERT",
    "pairs": "irexp.model.mono.Mono",
}


def other_scoring(folder: Path, values: Values) -> str | None:
    """In what a checkpoint and the configured model differ, if they score in different ways; None if they do not.

    Args:
        folder: the checkpoint; where its files do not decide how it scores, nothing is said.
        values: of the experiment.
    """
    configured, found = str(values["model"].get("_target_", "")), _family_of(folder)
    wanted, made = scoring_of(configured), scoring_of(found) if found else None
    if wanted is None or made is None or wanted == made:
        return None
    assert found is not None
    options = " or ".join(f"model={option}" for option in _options_of(found)) or "a model= of its kind"
    return (
        f"its files say {found.rpartition('.')[2]} ({_WORDS[made]}), and model={values['model']['name']} is "
        f"{configured.rpartition('.')[2]} ({_WORDS[wanted]}); set {options}"
    )


@functools.cache
def scoring_of(path: str) -> str | None:
    """A representation, or "pairs" for a cross-encoder; None if the class does not tell."""
    if not path:
        return None
    if (representation := constant(path, "representation")) is not None:
        return str(representation)
    with suppress(NoTargetError):
        return "pairs" if fills(target_of(path), _CROSS_ENCODER) else None
    return None


def _family_of(folder: Path) -> str | None:
    """The dotted path of the class that a checkpoint's files name; None if they leave it open."""
    name = _json(folder / "irexp.json").get("family")
    if name is not None:
        return _class_of(str(name))
    if (folder / "modules.json").is_file():
        return _LISTED.get(_listed(folder) or "")
    if not (folder / MANIFEST).is_file():
        return None
    configuration = read_manifest(folder)["provenance"]["configuration"]
    is_further = configuration["artifact"].get("initial") is not None  # it has the family of that checkpoint
    return None if is_further else configuration["model"].get("_target_")


def _class_of(name: str) -> str | None:
    """The class that irexp.json names, by its path or its module's name."""
    if "." in name:  # of a package that a file may name
        return name if is_in(name.rpartition(".")[0], packages_of_components()) else None
    module = read(f"irexp.model.{name}")
    classes = [key for key, node in module.names.items() if isinstance(node, ast.ClassDef)] if module else []
    paths = [f"irexp.model.{name}.{key}" for key in classes]
    return next((path for path in paths if fills(target_of(path), _MODEL)), None)


def _listed(folder: Path) -> str | None:
    """How a list of modules scores."""
    kinds = list(_kinds(folder))
    said = _json(folder / "config_sentence_transformers.json")
    names = {kind.rpartition(".")[2] for kind in kinds}
    model, similarity = said.get("model_type"), str(said.get("similarity_fn_name")).lower()
    if model in ("ColBERT", "MultiVectorEncoder") or similarity == "maxsim" or "MultiVectorMask" in names:
        return "tokens"
    if any(kind.startswith("pylate.") for kind in kinds):
        return "tokens"
    if model == "CrossEncoder" or "LogitScore" in names:
        return "pairs"
    return "sparse" if "SpladePooling" in names else "dense" if "Pooling" in names else None


def _kinds(folder: Path) -> Iterator[str]:
    """The types of all modules, those of a Router included."""
    entries = _content(folder / "modules.json")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping):
            yield str(entry.get("type"))
            router = _json(folder / str(entry.get("path") or "") / "router_config.json")
            yield from map(str, router.get("types", {}).values())


def _options_of(path: str) -> list[str]:
    """The options of conf/model whose files name a class."""
    files = sorted((CONF / "model").glob("*.yaml"))
    return [file.stem for file in files if re.search(rf"_target_: {re.escape(path)}\b", file.read_text("utf8"))]


def _json(path: Path) -> dict[str, Any]:
    content = _content(path)
    return content if isinstance(content, dict) else {}


def _content(path: Path) -> Any:
    """The content of a JSON file; None if there is none, or it is damaged, which loading it says."""
    try:
        return json.loads(path.read_text("utf8"))
    except (OSError, ValueError, RecursionError):
        return None
