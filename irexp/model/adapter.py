"""What an adapter's folder says of the model it belongs to, so that it opens without the configuration that made it.

`irexp.json` beside the adapters holds the family, its settings, and where its transformers lie:

    {"adapter_of": "ColBERT", "settings": {"dim": 128, …}, "backbones": {"backbone": {"name_or_path": …, …}}}

A file only decides which weights are read; whether code that comes with them is run, only the configuration decides.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from irexp.backbone.backbone import ATTENTIONS, Backbone
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import SETTINGS, Wanted, read_json, write_json
from irexp.model.checkpoint.native import is_given, make
from irexp.model.family import find_family
from irexp.model.model import Model
from irexp.types import UserError

#: What is said of a transformer.
_PLACE = ("name_or_path", "revision", "attn_implementation")


def write_recipe(folder: Path, model: partial[Model]) -> None:
    """Write what a model without its adapters is made of.

    Args:
        folder: that of the adapters; made if it is not there.
        model: the configured model; leave to run code of a checkpoint is not passed on.
    """
    family: Any = model.func
    backbones = {key: value for key, value in model.keywords.items() if isinstance(value, Backbone)}
    content = {
        "adapter_of": family.family() if "." in family.family() else family.__name__,
        "settings": {key: value for key, value in model.keywords.items() if key not in backbones},
        "backbones": {key: _described(backbone) for key, backbone in backbones.items()},
    }
    folder.mkdir(exist_ok=True)
    write_json(folder / SETTINGS, content)


def _described(backbone: Backbone) -> dict[str, str | None]:
    """What opens the same transformer, in fp32, so that merging an adapter rounds nothing."""
    name, revision = backbone.location()
    return dict(zip(_PLACE, (name, revision, backbone.attn_implementation), strict=True))


def make_recipe(folder: Path, wanted: Wanted, kind: type[Model] | None) -> Model:
    """The model that adapters belong to, with what is new in it drawn by torch's global generator.

    Args:
        folder: that of the adapters.
        wanted: what is wished otherwise.
        kind: the class of the configured model.

    Raises:
        UserError: if its family is not known, or the file says more than which weights are read.
    """
    path = folder / SETTINGS
    said = read_json(path)
    family = find_family(said.get("adapter_of"), path, kind)
    backbones = {
        key: HuggingFaceBackbone(**_place(place, path), trust_remote_code=wanted.trust_remote_code)
        for key, place in said["backbones"].items()
    }
    settings = {key: value for key, value in said["settings"].items() if not is_given(key)}
    return make(family, backbones, settings, wanted.over(folder, said["settings"]), path)


def _place(said: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a file says of a transformer: only which weights are read.

    Raises:
        UserError: naming what a checkpoint must not say.
    """
    if strange := sorted(said.keys() - set(_PLACE)):
        raise UserError(
            f"{path}: a backbone's {', '.join(strange)} must not be set by a checkpoint; {', '.join(_PLACE)} may. "
            f"To run code that comes with a model, set backbone.trust_remote_code=true, or call "
            f"load(…, trust_remote_code=True)"
        )
    if not all(value is None or isinstance(value, str) for value in said.values()) or not said.get("name_or_path"):
        raise UserError(f"{path}: {said} does not say where the backbone is; the checkpoint is damaged")
    if (kernel := said.get("attn_implementation")) not in (None, *ATTENTIONS):
        raise UserError(
            f"{path}: attn_implementation={kernel} must not be set by a checkpoint; {', '.join(ATTENTIONS)} may"
        )
    return said


def make_like(like: partial[Model], folder: Path, base: Path, wanted: Wanted) -> Model:
    """The configured model on another transformer, for adapters whose folder names no more than that."""
    names = [key for key, value in like.keywords.items() if isinstance(value, Backbone)]
    trust = wanted.trust_remote_code
    backbones = {key: HuggingFaceBackbone(str(base), trust_remote_code=trust) for key in ("backbone", *names)}
    return like.func(**(like.keywords | backbones | wanted.over(folder, {})))
