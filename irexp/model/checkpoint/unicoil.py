"""uniCOIL's checkpoints: `tok_proj` and the encoder in one file, with the prefix `coil_encoder.` at castorini."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers.models import WordPiece

from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    find_tensors,
    read_optional,
    save_tokenizer,
    save_with_head,
    write_settings,
)
from irexp.model.checkpoint.modules import ModuleBackbone

if TYPE_CHECKING:
    from irexp.model.unicoil import UniCOIL


def recognises(content: Content) -> bool:
    """Whether the weights include the layer `tok_proj`."""
    return not content.is_listed and any(".tok_proj." in f".{name}" for name in content.weights)


def save(model: UniCOIL, folder: Path) -> None:
    """Write a model that pyserini's UniCoilEncoder can read; it makes its tokenizer from vocab.txt."""
    write_settings(folder, model, keep_sep=model.keep_sep)
    head = {f"tok_proj.{name}": value for name, value in model.token_projection.state_dict().items()}
    save_with_head(model.encoder, head, folder)
    save_tokenizer(model.tokenizer, folder)
    if isinstance(model.tokenizer.backend_tokenizer.model, WordPiece):
        vocabulary = model.tokenizer.get_vocab()
        words = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf8")


def load(family: type[UniCOIL], folder: Path, wanted: Wanted) -> UniCOIL:
    """Load a folder of irexp, castorini or pyserini; in the latter two [SEP] has a weight."""
    settings = read_optional(folder / SETTINGS)
    backbone = ModuleBackbone(folder, trust_remote_code=wanted.trust_remote_code)
    backbone.key_mapping, backbone.own_layers = {r"^coil_encoder\.": ""}, ("tok_proj.",)
    model = family(
        backbone,
        keep_sep=settings.get("keep_sep", not settings),
        **wanted.name_and_lengths(folder, backbone.lengths() | settings),
    )
    state = find_tensors(folder, lambda name: "tok_proj." in name)
    fill(model.token_projection, {name.rpartition("tok_proj.")[2]: value for name, value in state.items()}, folder)
    return model
