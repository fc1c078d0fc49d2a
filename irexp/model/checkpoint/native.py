"""irexp's own layout, used by every family that names no other.

irexp.json            the family and its settings
config.json …         the transformer and its tokenizer, in the format of transformers; a second transformer is in a
                      subfolder named after its backbone's parameter in the constructor
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

#: The keys of irexp.json that every model has.
_ALWAYS = ("family", "name", "query_length", "document_length")


def is_setting(key: str) -> bool:
    """Whether a parameter of a family's constructor is a setting, rather than a backbone, the name or a length."""
    return key not in _ALWAYS and not key.endswith("backbone")


def recognises(content: Content) -> bool:
    """Never: irexp.json names the family."""
    return False


def save(model: Model, folder: Path) -> None:
    """Write a model.

    Raises:
        UserError: if there is no attribute for a setting.
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
    """Load a folder that irexp saved."""
    said = read_json(folder / SETTINGS)
    keys = [key for key in inspect.signature(family).parameters if key.endswith("backbone")]
    places = {key: folder if key == "backbone" else folder / key for key in keys}
    backbones = {
        key: HuggingFaceBackbone(str(place), trust_remote_code=wanted.trust_remote_code)
        for key, place in places.items()
        if place.is_dir()
    }
    settings = {key: value for key, value in said.items() if key not in _ALWAYS}
    model = make(family, backbones, settings, wanted.name_and_lengths(folder, said), folder / SETTINGS)
    state = read_safetensors(folder / _REST) if (folder / _REST).is_file() else {}
    fill(model, state, folder / _REST, names=rest_of(model).keys())
    return model


def make(
    family: type[Model], backbones: dict[str, Any], settings: dict[str, Any], read: dict[str, Any], place: Path
) -> Model:
    """A model from the settings of a file.

    Args:
        family: its class.
        backbones: by their names in the constructor.
        settings: its settings: numbers, strings and lists of these.
        read: its name and lengths.
        place: the file, for the message.

    Raises:
        UserError: if the constructor has no such setting, or a value is neither a number, a string nor a list of these.
    """
    taken = [key for key in inspect.signature(family).parameters if is_setting(key)]
    if strange := sorted(settings.keys() - set(taken)):
        raise UserError(
            f"{place}: a {family.__name__} has no setting {', '.join(strange)}; its settings: "
            f"{', '.join(taken) or 'none'}"
        )
    for key, value in settings.items():
        if any(isinstance(item, dict | list) for item in (value if isinstance(value, list) else [value])):
            raise UserError(f"{place}: {key}={value} must be a number, a string, null, or a list of these")
    model: Model = family(**backbones, **settings, **read)
    return model


def rest_of(model: Model) -> dict[str, Tensor]:
    """The weights that do not belong to a transformer."""
    encoders = [encoder for encoder, _ in model.encoders().values()]
    modules = model.named_modules(remove_duplicate=False)  # a shared tower has two names
    prefixes = tuple(f"{name}." for name, module in modules if any(module is e for e in encoders))
    return {name: value for name, value in model.state_dict().items() if not name.startswith(prefixes)}
