"""Checkpoints of Stanford's ColBERT: an encoder and `linear.weight` in one file, and artifact.metadata."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

from irexp.model.checkpoint.files import Content, Wanted, fill, find_tensors, read_optional
from irexp.model.checkpoint.modules import ModuleBackbone
from irexp.model.projection import Projection
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.colbert import ColBERT


def recognises(content: Content) -> bool:
    """Whether there is the metadata file, or only the architecture's name."""
    return content.has("artifact.metadata") or (not content.is_listed and content.architecture == "HF_ColBERT")


def load(family: type[ColBERT], folder: Path, wanted: Wanted) -> ColBERT:
    """Load a folder of Stanford's ColBERT; without artifact.metadata, with that library's defaults.

    Raises:
        UserError: if its similarity is not the cosine, or its linear layer is missing.
    """
    said = read_optional(folder / "artifact.metadata")
    if said.get("similarity", "cosine") != "cosine":
        raise UserError(f"{folder}: the similarity {said['similarity']!r} is not supported; supported: cosine")
    state = find_tensors(folder, lambda name: name.startswith("linear."))
    if "linear.weight" not in state:
        raise UserError(f"{folder}: missing weights ['linear.weight']")
    backbone = ModuleBackbone(folder, trust_remote_code=wanted.trust_remote_code)
    backbone.own_layers = ("linear.",)
    document_length = said.get("doc_maxlen") or min(220, backbone.longest() or 220)
    lengths = {"query_length": said.get("query_maxlen") or 32, "document_length": document_length}
    model = family(
        backbone,
        query_marker=said.get("query_token_id", "[unused0]"),
        document_marker=said.get("doc_token_id", "[unused1]"),
        attend_to_expansion=bool(said.get("attend_to_mask_tokens")),
        mask_punctuation=False,
        dim=len(state["linear.weight"]),
        **wanted.name_and_lengths(folder, lengths),
    )
    if said.get("mask_punctuation", True):  # the first token of each sign: [UNK] if the vocabulary lacks it
        encoded = (model.tokenizer.encode(sign, add_special_tokens=False) for sign in string.punctuation)
        model.skip(model.tokenizer.convert_ids_to_tokens([ids[0] for ids in encoded if ids]))
    (projection,) = model.projections
    assert isinstance(projection, Projection)
    fill(projection.linear, {name.removeprefix("linear."): value for name, value in state.items()}, folder)
    return model
