"""What a backbone is to a model: a cheap description that loads its encoder and tokenizer when they are asked for."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: Positions that models of the RoBERTa kind keep for padding.
_RESERVED_POSITIONS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2}

#: Parts of an encoder that no embedding is made of; they may be missing from a checkpoint.
_UNUSED = ("pooler.",)


class Backbone(ABC):
    """Any Hugging Face encoder or decoder, or the encoder of an encoder-decoder.

    A subclass says where it lies; constructing it reads nothing.
    """

    trust_remote_code: bool = False
    attn_implementation: str | None = None

    @abstractmethod
    def location(self) -> tuple[str, str | None]:
        """A folder or hub name, and the revision; what is not there is an error here."""

    def load_encoder(self) -> PreTrainedModel:
        """The encoder in fp32, without a pooler that nothing reads.

        Raises:
            UserError: if it cannot be found, or lacks a weight.
        """
        from transformers import AutoModel, AutoModelForTextEncoding

        config = self._read("AutoConfig")
        loader = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        more = {"attn_implementation": self.attn_implementation} if self.attn_implementation else {}
        encoder, information = self._read(
            loader, output_loading_info=True, dtype="float32", use_safetensors=True, **more
        )
        missing = [key for key in information["missing_keys"] if not any(part in f"{key}" for part in _UNUSED)]
        if missing:
            name, _ = self.location()
            raise UserError(
                f"{name} lacks {len(missing)} weights of {type(encoder).__name__}, such as {sorted(missing)[0]}: "
                f"it was saved from another architecture, or is damaged"
            )
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # unused parameters, which distributed training would wait for
        return encoder  # type: ignore[no-any-return]

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, as it was saved."""
        return self._read("AutoTokenizer")  # type: ignore[no-any-return]

    def _read(self, loader: Any, **options: Any) -> Any:
        """Call `from_pretrained` with errors that say what was looked for."""
        import transformers

        name, revision = self.location()
        loader = getattr(transformers, loader) if isinstance(loader, str) else loader
        level = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity(logging.ERROR)  # unused heads; missing weights are checked above
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            return loader.from_pretrained(name, revision=revision, trust_remote_code=self.trust_remote_code, **options)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{name} cannot be read as a {loader.__name__} ({reason}). It was looked for as a folder, in the hub's "
                f"cache and on the hub; give a folder with config.json, a tokenizer and model.safetensors, or the name "
                f"of a model on the hub while there is a network"
            ) from error
        finally:
            transformers.logging.set_verbosity(level)


def max_positions(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest sequence that an encoder can read; None if nothing bounds it."""
    limits = []
    if (positions := getattr(config, "max_position_embeddings", None)) and config.model_type != "t5":
        limits.append(positions - _RESERVED_POSITIONS.get(config.model_type, 0))
    if tokenizer.model_max_length < 10**9:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)
