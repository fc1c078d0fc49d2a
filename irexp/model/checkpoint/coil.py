"""COIL's checkpoints: the encoder, with the layers `tok_proj` and `cls_proj` in model.pt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    read_optional,
    read_torch,
    save_tokenizer,
    write_settings,
)
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.coil import COIL


def recognises(content: Content) -> bool:
    """Whether the folder has model.pt, the file of the layers, and no list of modules."""
    return not content.is_listed and content.has("model.pt")


def save(model: COIL, folder: Path) -> None:
    """Write a model in the format of COIL's original code."""
    write_settings(folder, model)
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    parts = {"tok_proj": model.token_projection, "cls_proj": model.cls_projection}
    state = {
        f"{part}.{name}": value.detach().cpu()
        for part, module in parts.items()
        if module is not None
        for name, value in module.state_dict().items()
    }
    torch.save(state, folder / "model.pt")


def load(family: type[COIL], folder: Path, wanted: Wanted) -> COIL:
    """Load a folder saved by irexp or by COIL's original code."""
    state = read_torch(folder / "model.pt")
    if unknown := sorted(name for name in state if not name.startswith(("tok_proj.", "cls_proj."))):
        raise UserError(f"{folder / 'model.pt'}: unexpected weights {unknown}; supported: tok_proj, cls_proj")
    if "tok_proj.weight" not in state:
        raise UserError(f"{folder / 'model.pt'}: missing weights ['tok_proj.weight']")
    model = family(
        HuggingFaceBackbone(str(folder), trust_remote_code=wanted.trust_remote_code),
        token_dim=len(state["tok_proj.weight"]),
        cls_dim=len(state["cls_proj.weight"]) if "cls_proj.weight" in state else 0,
        **wanted.name_and_lengths(folder, read_optional(folder / SETTINGS)),
    )
    for part, module in (("tok_proj", model.token_projection), ("cls_proj", model.cls_projection)):
        if module is not None:
            own = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
            fill(module, {name.removeprefix(f"{part}."): value for name, value in own.items()}, folder / "model.pt")
    return model
