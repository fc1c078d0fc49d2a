"""What an adapter's folder says of the model it belongs to, so that it opens without the configuration that made it.

`irexp.json` beside the adapters holds the family, its settings, and where its transformers lie:

    {"adapter_of": "ColBERT", "settings": {"dim": 128, …}, "backbones": {"backbone": {"name_or_path": …, …}}}
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from irexp.backbone.backbone import Backbone
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import SETTINGS, Wanted, read_json, write_json
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import UserError

#: By the name that a folder gives them.
_FAMILIES: dict[str, type[Any]] = {
    family.__name__: family
    for family in (DenseBiEncoder, SPLADE, UniCOIL, COIL, ColBERT, XTR, MVR, Mono, TokenLogit, SetEncoder)
}


def write_recipe(folder: Path, model: partial[Model]) -> None:
    """Write what a model without its adapters is made of.

    Args:
        folder: that of the adapters.
        model: the configured model; leave to run code of a checkpoint is not passed on.
    """
    backbones = {key: value for key, value in model.keywords.items() if isinstance(value, Backbone)}
    content = {
        "adapter_of": model.func.__name__,
        "settings": {key: value for key, value in model.keywords.items() if key not in backbones},
        "backbones": {key: _described(backbone) for key, backbone in backbones.items()},
    }
    write_json(folder / SETTINGS, content)


def _described(backbone: Backbone) -> dict[str, str | None]:
    """What opens the same transformer, in fp32, so that merging an adapter rounds nothing."""
    name, revision = backbone.location()
    return {"name_or_path": name, "revision": revision, "attn_implementation": backbone.attn_implementation}


def make_recipe(folder: Path, wanted: Wanted) -> Model:
    """The model that adapters belong to, with what is new in it drawn by torch's global generator.

    Raises:
        UserError: if its family is not known.
    """
    said = read_json(folder / SETTINGS)
    if said.get("adapter_of") not in _FAMILIES:
        raise UserError(
            f"{folder / SETTINGS}: adapters of {said.get('adapter_of')!r} are not known; of {', '.join(_FAMILIES)} are"
        )
    backbones = {key: HuggingFaceBackbone(**place) for key, place in said["backbones"].items()}
    model: Model = _FAMILIES[said["adapter_of"]](
        **backbones, **(said["settings"] | wanted.over(folder, said["settings"]))
    )
    return model


def make_like(like: partial[Model], folder: Path, base: Path, wanted: Wanted) -> Model:
    """The configured model on another transformer, for adapters whose folder names no more than that."""
    backbones = {"backbone": HuggingFaceBackbone(str(base))}
    if like.keywords.get("query_backbone") is not None:
        backbones["query_backbone"] = HuggingFaceBackbone(str(base))
    return like.func(**(like.keywords | backbones | wanted.over(folder, {})))
