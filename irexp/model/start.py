"""Where a training starts: from a backbone with new layers on top, or from a checkpoint with all it has learnt."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint.files import SETTINGS
from irexp.model.load import load
from irexp.model.model import Model
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Files that mark a folder as a retrieval model rather than a bare transformer.
_MARKS = (SETTINGS, "modules.json", "artifact.metadata", "adapter_config.json")

#: The modules of sentence-transformers whose weights, if any, are the transformer's.
_WITHOUT_WEIGHTS = (
    *("Transformer", "MLMTransformer", "Pooling", "SpladePooling", "Normalize", "Dropout", "MultiVectorMask", "Router"),
    "LogitScore",
)


def start_new(configured: partial[Model]) -> Model:
    """The configured model; torch's global generator draws the weights that its backbone does not have.

    A warning says if a backbone is a trained retrieval model, of which layers on top of the transformer are left out.

    Raises:
        UserError: if the backbone cannot be used, saying how to train a retrieval model further, if it is one.
    """
    places = [value.location() for value in configured.keywords.values() if isinstance(value, Backbone)]
    try:
        model = configured()
    except UserError as error:
        for name, _ in places:
            is_marked = any((Path(name) / mark).is_file() for mark in _MARKS)
            if str(error).startswith(name) and (is_marked or "unexpected weights" in str(error)):
                raise UserError(f"{error}. {_further(name)}") from error
        raise
    for name, revision in dict.fromkeys(places):
        if parts := ", ".join(_layers_on_top(name, revision)):
            log.warning(
                "%s holds a trained model, of which only the transformer is used, not %s. %s",
                name,
                parts,
                _further(name),
            )
    return model


def start_from(checkpoint: str, configured: partial[Model]) -> Model:
    """A checkpoint as the model to train further: its weights and settings, and the configuration's name and lengths.

    Args:
        checkpoint: a folder, of a model or of adapters, in any layout, or a name on the hub.
        configured: the configured model, which decides what the checkpoint leaves open.

    Raises:
        UserError: if it cannot be loaded, or makes other vectors than the configured model.
    """
    said = configured.keywords
    model = load(
        checkpoint,
        name=said.get("name"),
        query_length=said.get("query_length"),
        document_length=said.get("document_length"),
        like=configured,
    )
    family: Any = configured.func
    made, wanted = (getattr(kind, "representation", None) for kind in (model, family))
    if made != wanted:
        raise UserError(
            f"artifact.initial={checkpoint} is a {type(model).__name__}, and model={said.get('name')} is a "
            f"{family.__name__}, which is searched in another way; choose the model option of the checkpoint, or start "
            f"a new {family.__name__} from a transformer with backbone.name_or_path"
        )
    return model


def _further(name: str) -> str:
    return f"To train it further with all its weights, set artifact.initial={name}, or in Python fit(load('{name}'), …)"


def _layers_on_top(name: str, revision: str | None) -> Iterator[str]:
    """The layers of a retrieval model that a backbone does not read."""
    yield from (file for file in ("rest.safetensors",) if (Path(name) / file).is_file())
    listed = Path(name) / "modules.json" if Path(name).is_dir() else _fetch(name, revision)
    if listed is not None and listed.is_file():
        for entry in json.loads(listed.read_text(encoding="utf8")):
            kind = str(entry.get("type", "")).rpartition(".")[2]
            if kind not in _WITHOUT_WEIGHTS:
                yield entry.get("path") or kind


def _fetch(name: str, revision: str | None) -> Path | None:
    """The list of modules of a hub model; None if it has none, or it is not cached and there is no network."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(name, "modules.json", revision=revision))
    except (EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        return None
