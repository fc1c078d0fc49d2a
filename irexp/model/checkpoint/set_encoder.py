"""Set-Encoder's checkpoints: `linear.weight` and the encoder's weights in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    find_tensors,
    read_json,
    save_tokenizer,
    save_with_head,
    write_settings,
)

if TYPE_CHECKING:
    from irexp.model.set_encoder import SetEncoder


def recognises(content: Content) -> bool:
    """Never: irexp.json names the family."""
    return False


def save(model: SetEncoder, folder: Path) -> None:
    """Write a model."""
    write_settings(folder, model, extra_token=model.extra_token)
    save_with_head(model.encoder, {"linear.weight": model.linear.weight}, folder)
    save_tokenizer(model.tokenizer, folder)


def load(family: type[SetEncoder], folder: Path, wanted: Wanted) -> SetEncoder:
    """Load a folder that irexp saved."""
    settings = read_json(folder / SETTINGS)
    backbone = HuggingFaceBackbone(str(folder), trust_remote_code=wanted.trust_remote_code)
    backbone.own_layers = ("linear.",)
    model = family(backbone, extra_token=settings["extra_token"], **wanted.name_and_lengths(folder, settings))
    state = find_tensors(folder, lambda name: name.startswith("linear."))
    fill(model.linear, {name.removeprefix("linear."): value for name, value in state.items()}, folder)
    return model
