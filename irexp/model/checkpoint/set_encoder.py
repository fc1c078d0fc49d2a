"""Set-Encoder's checkpoints: `linear.weight` beside the encoder's weights.

Lightning IR's folders name their encoder in `backbone_model_type`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import transformers

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    find_tensors,
    read_json,
    read_optional,
    save_tokenizer,
    save_with_head,
    write_settings,
)
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from irexp.model.set_encoder import SetEncoder


def recognises(content: Content) -> bool:
    """The kind that Lightning IR gives it."""
    return not content.is_listed and content.config.get("model_type") == "set-encoder"


def save(model: SetEncoder, folder: Path) -> None:
    """Write a model."""
    write_settings(folder, model, extra_token=model.extra_token)
    save_with_head(model.encoder, {"linear.weight": model.linear.weight}, folder)
    save_tokenizer(model.tokenizer, folder)


def load(family: type[SetEncoder], folder: Path, wanted: Wanted) -> SetEncoder:
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
        backbone = HuggingFaceBackbone(str(folder), trust_remote_code=wanted.trust_remote_code)
    backbone.own_layers = ("linear.",)
    model = family(backbone, extra_token=settings["extra_token"], **wanted.over(folder, settings))
    state = find_tensors(folder, lambda name: name.startswith("linear."))
    fill(model.linear, {name.removeprefix("linear."): value for name, value in state.items()}, folder)
    return model


class _LightningIR(HuggingFaceBackbone):
    """An encoder whose folder names its architecture and tokenizer in fields of Lightning IR's own."""

    def load_config(self) -> PretrainedConfig:
        """The configuration of the encoder's kind."""
        said = read_json(Path(self.name_or_path) / "config.json")
        try:
            config = transformers.AutoConfig.for_model(said["backbone_model_type"])
        except ValueError as error:
            raise UserError(f"{self.name_or_path}: {str(error).splitlines()[0]}") from None
        config.update({key: value for key, value in said.items() if key not in ("model_type", "architectures")})
        return config

    def load_encoder(self) -> PreTrainedModel:
        """The encoder by the name of its kind."""
        encoder, missing = self._load(transformers.AutoModel, config=self.load_config())
        self._refuse(encoder, [name for name in missing if "pooler." not in name])
        setattr(encoder, "pooler", None)  # noqa: B010 - unused parameters, which distributed training would wait for
        return encoder

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer by the name of its class."""
        name = read_json(Path(self.name_or_path) / "tokenizer_config.json")["backbone_tokenizer_class"]
        kind = getattr(transformers, name, None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedTokenizerBase)):
            raise UserError(f"{self.name_or_path}: {name!r} is not a tokenizer of transformers")
        return kind.from_pretrained(self.name_or_path)  # type: ignore[no-any-return]
