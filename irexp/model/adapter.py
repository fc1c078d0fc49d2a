"""The recipe in an adapter's folder: which model the adapters belong to, so that they open without a configuration.

`irexp.json` next to the adapters holds the family, its settings, and the location of its transformers:

    {"adapter_of": "ColBERT", "settings": {"dim": 128, …}, "backbones": {"backbone": {"name_or_path": …, …}}}

The file only decides which weights are read; only the configuration decides whether code shipped with them is run.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from irexp.backbone.backbone import ATTENTIONS, Backbone
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import SETTINGS, Wanted, read_json, write_json
from irexp.model.checkpoint.native import is_setting, make, rest_of
from irexp.model.family import find_family
from irexp.model.model import Model
from irexp.types import UserError

#: The keys of a transformer's entry.
_PLACE = ("name_or_path", "revision", "attn_implementation")


def write_recipe(folder: Path, model: partial[Model]) -> None:
    """Write the recipe of a model without its adapters.

    Args:
        folder: the folder of the adapters; created if it does not exist.
        model: the configured model; its permission to run a checkpoint's code is not written.
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
    """The entry that opens the same transformer, in fp32, so that merging an adapter rounds nothing."""
    name, revision = backbone.location()
    return dict(zip(_PLACE, (name, revision, backbone.attn_implementation), strict=True))


def make_recipe(folder: Path, wanted: Wanted, kind: type[Model] | None) -> Model:
    """The model that adapters belong to; its new layers are drawn by torch's global generator.

    Args:
        folder: the folder of the adapters.
        wanted: the caller's choices, which override the file's.
        kind: the class of the configured model.

    Raises:
        UserError: if its family is unknown, or the file sets more than which weights are read.
    """
    path = folder / SETTINGS
    said = read_json(path)
    family = find_family(said.get("adapter_of"), path, kind)
    backbones = {
        key: HuggingFaceBackbone(**_place(place, path), trust_remote_code=wanted.trust_remote_code)
        for key, place in said["backbones"].items()
    }
    settings = {key: value for key, value in said["settings"].items() if is_setting(key)}
    return make(family, backbones, settings, wanted.name_and_lengths(folder, said["settings"]), path)


def _place(said: dict[str, Any], path: Path) -> dict[str, Any]:
    """A transformer's entry in a file, checked to set nothing but which weights are read.

    Raises:
        UserError: naming the key that a checkpoint must not set.
    """
    if strange := sorted(said.keys() - set(_PLACE)):
        raise UserError(
            f"{path}: a backbone's {', '.join(strange)} must not be set by a checkpoint; {', '.join(_PLACE)} may. "
            f"To run code shipped with a model, set backbone.trust_remote_code=true, or call "
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
    """The configured model on another transformer, for adapters whose folder names only that transformer.

    Raises:
        UserError: if the model has layers on top of the transformer, which would be drawn at random.
    """
    names = [key for key, value in like.keywords.items() if isinstance(value, Backbone)]
    trust = wanted.trust_remote_code
    backbones = {key: HuggingFaceBackbone(str(base), trust_remote_code=trust) for key in ("backbone", *names)}
    model = like.func(**(like.keywords | backbones | wanted.name_and_lengths(folder, {})))
    if drawn := sorted(rest_of(model)):
        raise UserError(
            f"{folder}: its adapters are for {base}, and neither has the weights {', '.join(drawn[:4])} of the "
            f"configured {type(model).__name__}; change the setting that asks for them"
        )
    return model
