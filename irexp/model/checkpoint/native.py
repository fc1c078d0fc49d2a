"""irexp's own layout, which any family has that names no other.

irexp.json            the family, by its class, and its settings
config.json …         the transformer and its tokenizer, as transformers saves them; a second one is in a folder that
                      has the name of its backbone in the constructor
rest.safetensors      the model's other weights, if it has any
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    read_json,
    read_safetensors,
    save_tokenizer,
    write_settings,
)
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.model import Model

_REST = "rest.safetensors"

#: What irexp.json says of every model.
_ALWAYS = ("family", "name", "query_length", "document_length")


def is_given(key: str) -> bool:
    """Whether a parameter of a family's constructor is a backbone, the name or a length rather than a setting."""
    return key in _ALWAYS or key.endswith("backbone")


def recognises(content: Content) -> bool:
    """Never: irexp.json says it."""
    return False


def save(model: Model, folder: Path) -> None:
    """Write a model.

    Raises:
        UserError: if a setting is not kept, or is not a plain value.
    """
    write_settings(folder, model, **model.settings())
    for key, (encoder, tokenizer) in model.encoders().items():
        place = folder if key == "backbone" else folder / key
        place.mkdir(exist_ok=True)
        encoder.save_pretrained(place)
        save_tokenizer(tokenizer, place)
    if rest := rest_of(model):
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in rest.items()}, folder / _REST)


def load(family: type[Model], folder: Path, wanted: Wanted) -> Model:
    """Open a folder that irexp saved."""
    said = read_json(folder / SETTINGS)
    keys = [key for key in inspect.signature(family).parameters if key.endswith("backbone")]
    places = {key: folder if key == "backbone" else folder / key for key in keys}
    backbones = {
        key: HuggingFaceBackbone(str(place), trust_remote_code=wanted.trust_remote_code)
        for key, place in places.items()
        if place.is_dir()
    }
    settings = {key: value for key, value in said.items() if key not in _ALWAYS}
    model = make(family, backbones, settings, wanted.over(folder, said), folder / SETTINGS)
    state = read_safetensors(folder / _REST) if (folder / _REST).is_file() else {}
    fill(model, state, folder / _REST, names=rest_of(model).keys())
    return model


def make(
    family: type[Model], backbones: dict[str, Any], settings: dict[str, Any], read: dict[str, Any], place: Path
) -> Model:
    """A model of settings that a file says.

    Args:
        family: its class.
        backbones: by their names in the constructor.
        settings: its own ones: numbers, words and lists of them.
        read: its name and lengths.
        place: the file.

    Raises:
        UserError: if the constructor has no such setting, or a value is not a plain one.
    """
    taken = [key for key in inspect.signature(family).parameters if not is_given(key)]
    if strange := sorted(settings.keys() - set(taken)):
        raise UserError(
            f"{place}: a {family.__name__} has no {', '.join(strange)}; it has {', '.join(taken) or 'no settings'}"
        )
    for key, value in settings.items():
        if any(isinstance(item, dict | list) for item in (value if isinstance(value, list) else [value])):
            raise UserError(f"{place}: {key}={value} is not a plain value")
    model: Model = family(**backbones, **settings, **read)
    return model


def rest_of(model: Model) -> dict[str, Tensor]:
    """The weights that are in no transformer."""
    encoders = [encoder for encoder, _ in model.encoders().values()]
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if any(module is e for e in encoders))
    return {name: value for name, value in model.state_dict().items() if not name.startswith(prefixes)}
