"""The interface of backbones: a cheap description that loads the encoder and the tokenizer on request."""

from __future__ import annotations

import inspect
import logging
import pickle
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from irexp.backbone.tokenizer import tokenizer_hint
from irexp.types import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: Parts of an encoder that embeddings do not use; a checkpoint may lack them.
_UNUSED = ("pooler.",)

#: Heads in checkpoints of encoders, as transformers names them; other unused weights are an error, since they mean that
#: the checkpoint is of another architecture.
_HEADS = (
    *("pooler.", "cls.", "lm_head.", "head.", "decoder.", "predictions.", "lm_predictions.", "mask_predictions."),
    *("vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "sop_classifier.", "logits_proj.", "lm_loss."),
    *("pre_classifier.", "classifier.", "score.", "qa_outputs.", "sequence_summary.", "embed_out.", "cls_head."),
    *("final_logits_bias", "generator_predictions.", "generator_lm_head.", "discriminator_predictions."),
)

#: The attention implementations within transformers; any other name refers to code on the hub.
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")

#: File names of tokenizers.
_TOKENIZER_FILES = (
    *("tokenizer*", "vocab*", "special_tokens_map.json", "merges.txt", "bpe.codes", "tekken.json"),
    *("*.model", "*.vocab", "*.spm", "*.tiktoken"),
)

#: Buffers that older versions of transformers saved.
_BUFFERS = ("position_ids", "inv_freq", "masked_bias")


class Backbone(ABC):
    """Any Hugging Face encoder or decoder, or the encoder of an encoder-decoder.

    A subclass gives its location; the constructor reads nothing. `key_mapping` renames weights while they are read;
    weights whose names begin with one of `own_layers` belong to a layer outside the encoder, and are expected.
    """

    trust_remote_code: bool = False
    attn_implementation: str | None = None
    dtype: str = "float32"
    key_mapping: dict[str, str] | None = None
    own_layers: tuple[str, ...] = ()

    @abstractmethod
    def location(self) -> tuple[str, str | None]:
        """A folder or hub name, and the revision.

        Raises:
            UserError: if the backbone is known not to exist.
        """

    def load_config(self) -> PretrainedConfig:
        """The architecture according to config.json."""
        return self._read("AutoConfig")  # type: ignore[no-any-return]

    def load_encoder(self) -> PreTrainedModel:
        """The encoder, without its unused pooler.

        Raises:
            UserError: if it cannot be found, lacks a weight, has one that belongs to no known head, is an
                encoder-decoder whose encoder other libraries would not use alone, such as BART, or wraps its encoder.
        """
        from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoModel, AutoModelForTextEncoding

        config = self.load_config()
        is_half = (config.architectures or [""])[0].endswith("EncoderModel")  # of an encoder-decoder
        if config.is_encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
            name, _ = self.location()
            raise UserError(
                f"{name}: transformers has no class for the encoder of a {config.model_type} alone, so that other "
                f"libraries would read its decoder's vectors from the same files; use an encoder, a decoder or a T5"
            )
        if config.model_type == "dpr":
            name, _ = self.location()
            kind = (config.architectures or ["DPRQuestionEncoder"])[0]
            part = "ctx_encoder" if "Context" in kind else "question_encoder"
            raise UserError(
                f"{name}: a {kind} returns no vectors of tokens; save the BERT in it, and the tokenizer beside that: "
                f"transformers.{kind}.from_pretrained('{name}').{part}.bert_model.save_pretrained('bert'); then set "
                f"model_type in bert/config.json to bert"
            )
        encoder, missing = self._load(AutoModelForTextEncoding if config.is_encoder_decoder or is_half else AutoModel)
        self._refuse(encoder, [key for key in missing if not any(part in key for part in _UNUSED)])
        if getattr(encoder, "pooler", None) is not None:
            setattr(encoder, "pooler", None)  # noqa: B010 - distributed training would wait for unused parameters
        return encoder

    def load_masked_lm(self) -> PreTrainedModel:
        """The encoder with its masked-language-model head.

        Raises:
            UserError: if its architecture or its weights have no such head.
        """
        name, _ = self.location()
        if "masked" not in self._heads():
            raise UserError(
                f"{name} has no masked-language-model head, which this model needs: its architecture has none; use "
                f"another backbone"
            )
        encoder, missing = self._load("AutoModelForMaskedLM")
        if missing:
            raise UserError(
                f"{name} has no masked-language-model head, which this model needs: its weights lack "
                f"{', '.join(missing[:4])}; use a checkpoint that was saved with its head"
            )
        return encoder

    def load_classifier(self, labels: int, *, has_head: bool) -> PreTrainedModel:
        """The encoder with a classification head of one or two logits.

        Args:
            labels: the number of logits.
            has_head: whether the weights must include the head; if not, it is initialised by torch's global generator,
                also when the weights include one with another number of labels.
        """
        if "classifier" not in self._heads():
            name, _ = self.location()
            raise UserError(f"{name} has no classification head, which this model needs: its architecture has none")
        model, missing = self._load("AutoModelForSequenceClassification", redraws_head=not has_head, num_labels=labels)
        prefix = f"{model.base_model_prefix}."
        if not has_head:
            missing = [key for key in missing if key.startswith(prefix) and not any(part in key for part in _UNUSED)]
        self._refuse(model, missing)
        return model

    def load_language_model(self) -> PreTrainedModel:
        """A decoder or an encoder-decoder with its language-model head.

        Raises:
            UserError: if it is neither.
        """
        heads = self._heads()
        name, _ = self.location()
        is_encoder = "masked" in heads and not self.load_config().is_decoder  # BERT can be made a decoder
        if "seq2seq" not in heads and ("causal" not in heads or is_encoder):
            raise UserError(f"{name} is neither a decoder nor an encoder-decoder; this model needs one of them")
        model, missing = self._load("AutoModelForSeq2SeqLM" if "seq2seq" in heads else "AutoModelForCausalLM")
        self._refuse(model, missing)
        return model

    def _heads(self) -> set[str]:
        """The heads that transformers implements for this architecture."""
        from transformers.models.auto import modeling_auto as auto

        config = self.load_config()
        mappings = {
            "masked": auto.MODEL_FOR_MASKED_LM_MAPPING,
            "classifier": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
            "causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING,
            "seq2seq": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        }
        remote = getattr(config, "auto_map", None) or {}
        return {head for head, mapping in mappings.items() if type(config) in mapping} | (
            set(mappings) if remote else set()
        )

    def _load(self, loader: Any, *, redraws_head: bool = False, **options: Any) -> tuple[PreTrainedModel, list[str]]:
        """A model and its missing weights; unused heads are logged by name.

        Args:
            loader: a class of transformers, or its name.
            redraws_head: whether a head of another shape is initialised again, rather than an error.
            options: passed to `from_pretrained`.

        Raises:
            UserError: if a weight has another shape than in the configuration, or is unused and of no known head.
        """
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        if self.key_mapping:
            options["key_mapping"] = self.key_mapping
        name, _ = self.location()
        folder = Path(name)
        if folder.is_dir():  # formats other than safetensors are read with weights_only, which runs no code
            options["use_safetensors"] = any(folder.glob("model*.safetensors*"))
        self._refuse_quantised()
        self._refuse_kernels()
        if self.load_config().model_type == "big_bird":  # else the first short batch turns sparse attention off for all
            options["attention_type"] = "original_full"
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # mismatches are an error below
        model, information = self._read(loader, dtype=self.dtype, **options)
        if self.load_config().model_type == "xlnet":
            model.register_forward_pre_hook(_ClsType(self.load_tokenizer().cls_token_id), with_kwargs=True)
        if self.key_mapping:
            model._weight_conversions = None  # or transformers would restore the old names when it saves
        drawn = []
        for key, found, wanted in sorted(information["mismatched_keys"]):
            if not redraws_head or not key.startswith(_HEADS):
                raise UserError(
                    f"{name}: {key} has the shape {tuple(found)}, but its config.json or the model requires "
                    f"{tuple(wanted)}"
                )
            drawn.append(key)
        if drawn:
            log.warning("%s: a head with another number of labels is initialised again: %s", name, ", ".join(drawn))
        prefix = f"{model.base_model_prefix}."
        left_over = sorted(
            key.removeprefix(prefix)
            for key in map(str, information["unexpected_keys"])
            if not key.startswith(self.own_layers) and not key.endswith(_BUFFERS)
        )
        if strange := [key for key in left_over if not key.startswith(_HEADS)]:
            raise UserError(
                f"{name}: unexpected weights {', '.join(strange)}, which belong neither to a {type(model).__name__} "
                f"nor to a known head; the checkpoint or its config.json is of another architecture"
            )
        if left_over:
            log.info("%s: unused heads: %s", name, ", ".join(left_over))
        return model, sorted({*map(str, information["missing_keys"]), *drawn})

    def _refuse_quantised(self) -> None:
        """Refuse packed weights, which can be neither trained nor saved, and need packages of their own."""
        quantisation = getattr(self.load_config(), "quantization_config", None)
        if quantisation is not None:
            name, _ = self.location()
            method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
            raise UserError(
                f"{name} has quantised weights ({method}), and irexp computes with float weights; name the checkpoint "
                f"that it was quantised from, or one with dequantised weights"
            )

    def _refuse_kernels(self) -> None:
        """Refuse attention code from the hub that a checkpoint's file asks for; only the configuration may do so."""
        if chosen := self.attn_implementation:  # overrides the checkpoint's
            if chosen not in ATTENTIONS and "/" not in chosen:
                known = ", ".join(ATTENTIONS)
                raise UserError(
                    f"backbone.attn_implementation={chosen}: there is no such attention; choose one of {known}, or "
                    f"null for transformers' choice"
                )
            return
        config = self.load_config()
        parts = [config, *(getattr(config, key, None) for key in config.sub_configs)]
        named = [getattr(part, "_attn_implementation", None) for part in parts]
        if strange := [name for name in named if name not in (None, *ATTENTIONS)]:
            name, _ = self.location()
            raise UserError(
                f"{name}: its config.json asks for the attention {strange[0]}, which is code from the hub; only the "
                f"configuration may ask for such code, by backbone.attn_implementation"
            )

    def _refuse(self, model: PreTrainedModel, missing: list[str]) -> None:
        if missing:
            name, _ = self.location()
            raise UserError(
                f"{name} lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}: "
                f"it was saved from another architecture or is damaged"
            )

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer with its saved settings.

        Raises:
            UserError: if the folder has no tokenizer files, of which transformers would make an empty tokenizer.
        """
        folder = Path(self.location()[0])
        if folder.is_dir() and not any(path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)):
            raise UserError(
                f"{folder} has no tokenizer, and an empty one would map every text to the same tokens. "
                f"{tokenizer_hint(folder)}"
            )
        return self._read("AutoTokenizer")  # type: ignore[no-any-return]

    def _read(self, loader: Any, **options: Any) -> Any:
        """Call `from_pretrained`, with errors that say where it looked."""
        import transformers

        name, revision = self.location()
        loader = getattr(transformers, loader) if isinstance(loader, str) else loader
        level = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity(logging.ERROR)  # unused heads; missing weights are checked above
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            return loader.from_pretrained(name, revision=revision, trust_remote_code=self.trust_remote_code, **options)
        except (OSError, ValueError, SafetensorError, pickle.UnpicklingError, RecursionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{name} cannot be read as a {loader.__name__} ({reason}). It was looked for as a folder, in the hub's "
                f"cache and on the hub; give a folder with config.json, a tokenizer and model.safetensors, or the name "
                f"of a model on the hub if there is a network"
            ) from error
        except ImportError as error:
            reason = " ".join(str(error).split())
            hint = f"; backbone.attn_implementation={self.attn_implementation} may require it, sdpa needs no package"
            raise UserError(
                f"{name} needs a package that is not installed: {reason}{hint if self.attn_implementation else ''}"
            ) from error
        finally:
            transformers.logging.set_verbosity(level)


def without_cache(model: PreTrainedModel) -> dict[str, bool]:
    """Arguments that turn off a decoder's key-value cache, which only generation needs; none for other models."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


class _ClsType:
    """Before XLNet's forward: the types of tokens, where that for the whole text has one of its own, 2.

    Without types XLNet leaves out the term of its attention that depends on them.
    """

    def __init__(self, cls: int) -> None:
        self._cls = cls

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids_BL = kwargs.get("input_ids")
        if ids_BL is None:
            return args, kwargs
        types_BL = kwargs.get("token_type_ids")
        types_BL = ids_BL.new_zeros(ids_BL.shape) if types_BL is None else types_BL
        return args, kwargs | {"token_type_ids": types_BL.masked_fill(ids_BL == self._cls, 2)}
