"""What a checkpoint and a configuration say differently."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from irexp.backbone.backbone import Backbone
from irexp.model.model import Model


def contradictions(model: Model, configured: partial[Model]) -> Iterator[str]:
    """What a checkpoint and the configuration say differently; null, an empty text and an empty list say nothing."""
    family: Any = configured.func
    if type(model) is not family:
        yield f"a {type(model).__name__}, not a {family.__name__}"
    backbones = {key for key, value in configured.keywords.items() if isinstance(value, Backbone)}
    if backbones and backbones != model.encoders().keys():
        yield f"{len(model.encoders())} encoder(s), not {len(backbones)}"
    known = model.known_settings()
    for key, value in configured.keywords.items():
        if key in known and value not in (None, "", []) and _plain(known[key]) != _plain(value):
            yield f"{key} {known[key]!r}, not model.{key}={value!r}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
