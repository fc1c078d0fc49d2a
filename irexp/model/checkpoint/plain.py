"""Checkpoints that are an encoder and a layer or two: uniCOIL, COIL, MVR, Set-Encoder.

uniCOIL       `tok_proj` beside the encoder's weights, which may stand under `coil_encoder.` (castorini)
COIL          the encoder, and `tok_proj` and `cls_proj` in model.pt
MVR           the encoder, whose vocabulary has the viewers
Set-Encoder   `linear.weight` beside the encoder's weights; Lightning IR's folders name their encoder in
              `backbone_model_type`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from tokenizers.models import WordPiece

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
    Wanted,
    fill,
    find_tensors,
    read_json,
    read_optional,
    read_torch,
    save_tokenizer,
    save_with_head,
    write_settings,
)
from irexp.model.checkpoint.modules import ModuleBackbone
from irexp.model.coil import COIL
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.unicoil import UniCOIL
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_unicoil(model: UniCOIL, folder: Path) -> None:
    """Write a model as pyserini's UniCoilEncoder reads it, whose tokenizer is made of a list of words."""
    write_settings(folder, model, "unicoil", keep_sep=model.keep_sep)
    head = {f"tok_proj.{name}": value for name, value in model.token_projection.state_dict().items()}
    save_with_head(model.encoder, head, folder)
    save_tokenizer(model.tokenizer, folder)
    if isinstance(model.tokenizer.backend_tokenizer.model, WordPiece):
        vocabulary = model.tokenizer.get_vocab()
        words = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf8")


def load_unicoil(folder: Path, wanted: Wanted) -> UniCOIL:
    """Open a folder of irexp, castorini or pyserini; there [SEP] is a word."""
    settings = read_optional(folder / SETTINGS)
    backbone = ModuleBackbone(folder)
    backbone.key_mapping, backbone.own_layers = {r"^coil_encoder\.": ""}, ("tok_proj.",)
    model = UniCOIL(
        backbone,
        keep_sep=settings.get("keep_sep", not settings),
        **wanted.over(folder, backbone.lengths() | settings),
    )
    state = find_tensors(folder, lambda name: "tok_proj." in name)
    fill(model.token_projection, {name.rpartition("tok_proj.")[2]: value for name, value in state.items()}, folder)
    return model


def save_coil(model: COIL, folder: Path) -> None:
    """Write a model in the layout of COIL's own code."""
    write_settings(folder, model, "coil")
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


def load_coil(folder: Path, wanted: Wanted) -> COIL:
    """Open a folder of irexp or of COIL's own code."""
    state = read_torch(folder / "model.pt")
    if unknown := sorted(name for name in state if not name.startswith(("tok_proj.", "cls_proj."))):
        raise UserError(f"{folder / 'model.pt'}: unexpected weights {unknown}; tok_proj and cls_proj are understood")
    if "tok_proj.weight" not in state:
        raise UserError(f"{folder / 'model.pt'}: missing weights ['tok_proj.weight']")
    model = COIL(
        HuggingFaceBackbone(str(folder)),
        token_dim=len(state["tok_proj.weight"]),
        cls_dim=len(state["cls_proj.weight"]) if "cls_proj.weight" in state else 0,
        **wanted.over(folder, read_optional(folder / SETTINGS)),
    )
    for part, module in (("tok_proj", model.token_projection), ("cls_proj", model.cls_projection)):
        if module is not None:
            own = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
            fill(module, {name.removeprefix(f"{part}."): value for name, value in own.items()}, folder / "model.pt")
    return model


def save_mvr(model: MVR, folder: Path) -> None:
    """Write a model."""
    write_settings(folder, model, "mvr", viewers=model.viewers)
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)


def load_mvr(folder: Path, wanted: Wanted) -> MVR:
    """Open a folder of irexp."""
    settings = read_json(folder / SETTINGS)
    return MVR(HuggingFaceBackbone(str(folder)), viewers=settings["viewers"], **wanted.over(folder, settings))


def save_set_encoder(model: SetEncoder, folder: Path) -> None:
    """Write a model."""
    write_settings(folder, model, "set_encoder", extra_token=model.extra_token)
    save_with_head(model.encoder, {"linear.weight": model.linear.weight}, folder)
    save_tokenizer(model.tokenizer, folder)


def load_set_encoder(folder: Path, wanted: Wanted) -> SetEncoder:
    """Open a folder of irexp or of Lightning IR."""
    settings = read_optional(folder / SETTINGS)
    config = read_json(folder / "config.json")
    if "backbone_model_type" in config:
        if config.get("linear_bias") or config.get("pooling_strategy", "first") != "first":
            raise UserError(
                f"{folder}: a Set-Encoder with a bias or without the first token's vector is not understood"
            )
        backbone: HuggingFaceBackbone = _LightningIR(str(folder))
        settings = {
            "extra_token": config["add_extra_token"],
            "query_length": config.get("query_length"),
            "document_length": config.get("doc_length"),
        }
    else:
        backbone = HuggingFaceBackbone(str(folder))
    backbone.own_layers = ("linear.",)
    model = SetEncoder(backbone, extra_token=settings["extra_token"], **wanted.over(folder, settings))
    state = find_tensors(folder, lambda name: name.startswith("linear."))
    fill(model.linear, {name.removeprefix("linear."): value for name, value in state.items()}, folder)
    return model


class _LightningIR(HuggingFaceBackbone):
    """An encoder whose folder names its architecture and tokenizer in fields of Lightning IR's own."""

    def load_encoder(self) -> PreTrainedModel:
        """The encoder by the name of its kind."""
        said = read_json(Path(self.name_or_path) / "config.json")
        config = transformers.AutoConfig.for_model(said["backbone_model_type"])
        config.update({key: value for key, value in said.items() if key not in ("model_type", "architectures")})
        encoder, missing = self._load(transformers.AutoModel, config=config)
        self._refuse(encoder, [name for name in missing if "pooler." not in name])
        setattr(encoder, "pooler", None)  # noqa: B010 - unused parameters, which distributed training would wait for
        return encoder

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer by the name of its class."""
        said = read_json(Path(self.name_or_path) / "tokenizer_config.json")
        kind = getattr(transformers, said["backbone_tokenizer_class"])
        return kind.from_pretrained(self.name_or_path)  # type: ignore[no-any-return]
