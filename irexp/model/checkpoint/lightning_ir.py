"""Checkpoints of Lightning IR: an encoder's weights without a prefix, one more layer, and settings in config.json.

`model_type` is the kind of model and `backbone_model_type` the type of its encoder. Pooling, projection and similarity
are set among the encoder's own settings. Marker tokens, [QUE] and [DOC], come after the first token.

lir-dpr        `projection`, a linear layer on the pooled vector
splade         `projection`, the masked-language-model head
col            `projection`, a linear layer on each token's vector
mono           `linear`, a linear layer on the first token's vector
set-encoder    the same, for a listwise model

A length of null means the encoder's maximum.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.tokenizer import max_positions
from irexp.model.checkpoint.files import Content, Wanted, fill, find_tensors, read_json
from irexp.model.projection import Projection
from irexp.types import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from irexp.model.colbert import ColBERT
    from irexp.model.dense import DenseBiEncoder
    from irexp.model.linear_mono import LinearMono
    from irexp.model.set_encoder import SetEncoder
    from irexp.model.splade import SPLADE

_KIND = "backbone_model_type"

_POOLINGS = {"first": "cls", "mean": "mean", "max": "max"}

_ACTIVATIONS = {"relu_log": "log1p", "relu_2xlog": "log1p_log1p"}

#: Lightning IR's names of a masked language model's weights, mapped to those of transformers.
_HEAD = {r"^projection\.predictions\.": "cls.predictions.", r"^(embeddings|encoder)\.": r"bert.\1."}

_MARKERS = {"query": "[QUE]", "document": "[DOC]"}

#: Settings that were renamed: the old and the new name.
_RENAMED = {
    "normalization": "normalization_strategy",
    "sparsification": "sparsification_strategy",
    "query_pooling_strategy": "pooling_strategy",
}


class Kind:
    """The layout of one of Lightning IR's kinds of models; it can be loaded, not saved."""

    def __init__(self, name: str, read: Callable[[Any, _Folder, Wanted], Any]) -> None:
        """Name the kind and its loader.

        Args:
            name: its `model_type`.
            read: loads a folder as a model of a family.
        """
        self.name, self._read = name, read

    def recognises(self, content: Content) -> bool:
        """Whether config.json names this kind and an encoder's type."""
        return not content.is_listed and _KIND in content.config and content.config.get("model_type") == self.name

    def load(self, family: Any, folder: Path, wanted: Wanted) -> Any:
        """Load a folder of this kind.

        Raises:
            UserError: naming a setting that is not supported, or a weight that is missing or unexpected.
        """
        return self._read(family, _Folder(folder), wanted)


class _Folder(HuggingFaceBackbone):
    """The settings and the encoder of a folder; code of the folder is never run."""

    def __init__(self, folder: Path) -> None:
        """Read config.json."""
        super().__init__(str(folder))
        self.folder = folder
        said: dict[str, Any] = read_json(folder / "config.json")
        if "pooling_strategy" not in said and said.get("query_pooling_strategy") != said.get("doc_pooling_strategy"):
            raise UserError(f"{folder}: different poolings for queries and documents are not supported")
        self.said = {new: said[old] for old, new in _RENAMED.items() if old in said} | said

    def load_config(self) -> PretrainedConfig:
        """The configuration of the encoder's type."""
        try:
            kind = type(transformers.AutoConfig.for_model(self.said[_KIND]))
        except ValueError as error:
            raise UserError(f"{self.folder}: {str(error).splitlines()[0]}") from None
        said = {key: value for key, value in self.said.items() if key not in ("model_type", "architectures")}
        return kind.from_dict(said)  # its constructor derives settings from others, such as each layer's attention

    def load_encoder(self) -> PreTrainedModel:
        """The encoder of the type that config.json names."""
        encoder, missing = self._load(transformers.AutoModel, config=self.load_config())
        self._refuse(encoder, [name for name in missing if "pooler." not in name])
        setattr(encoder, "pooler", None)  # noqa: B010 - unused, but distributed training would wait for it
        return encoder

    def load_masked_lm(self) -> PreTrainedModel:
        """The encoder with its head."""
        if self.said[_KIND] != "bert":
            raise UserError(f"{self.folder}: the head of a {self.said[_KIND]} is not supported; supported: bert")
        self.key_mapping = _HEAD
        encoder, missing = self._load(transformers.AutoModelForMaskedLM, config=self.load_config())
        self._refuse(encoder, [name for name in missing if "decoder" not in name])  # the decoder's weights are tied
        return encoder

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of tokenizer.json, with the inputs of the class that its configuration names.

        Lightning IR names the class by the transformer's type, and it may belong to another kind of tokenizer.
        """
        name = read_json(self.folder / "tokenizer_config.json")["backbone_tokenizer_class"]
        kind = getattr(transformers, name, None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedTokenizerBase)):
            raise UserError(f"{self.folder}: {name!r} is not a tokenizer of transformers")
        if not (self.folder / "tokenizer.json").is_file():
            return kind.from_pretrained(self.folder)  # type: ignore[no-any-return]
        inputs = list(kind.model_input_names)
        tokenizer: PreTrainedTokenizerBase = transformers.PreTrainedTokenizerFast.from_pretrained(
            self.folder, model_input_names=inputs
        )
        return tokenizer

    def require(self, **supported: object) -> None:
        """Refuse settings with unsupported values.

        Args:
            supported: the supported values of each setting; the first is the default if the folder does not set it.
        """
        for key, values in supported.items():
            assert isinstance(values, tuple)
            if (value := self.said.get(key, values[0])) not in values:
                allowed = ", ".join(map(repr, values))
                raise UserError(f"{self.folder}: Lightning IR's {key}={value!r} is not supported; supported: {allowed}")

    def read(self, wanted: Wanted, *, extra_tokens: dict[str, int] | None = None) -> dict[str, Any]:
        """The name and the lengths, as a family's constructor takes them.

        Args:
            wanted: the caller's choices, which override the folder's.
            extra_tokens: per side, the number of tokens that irexp's length counts and Lightning IR's does not.
        """
        longest = max_positions(self.load_config(), self.load_tokenizer())
        lengths: dict[str, int | None] = {}
        for side, key in (("query", "query_length"), ("document", "doc_length")):
            length = self.said.get(key)
            length = None if length is None else length + (extra_tokens or {}).get(side, 0)
            lengths[f"{side}_length"] = min((n for n in (length, longest) if n is not None), default=None)
        return wanted.name_and_lengths(self.folder, lengths)

    def is_normalised(self) -> bool:
        """Whether vectors are normalised, under the setting's old or new name."""
        return bool(self.said.get("normalize", self.said.get("normalization_strategy") == "l2"))

    def markers(self, setting: str, *, none: str | None) -> dict[str, Any]:
        """The settings for the marker of each side.

        Args:
            setting: the family's name for it: marker or prompt.
            none: the value for a model without markers.
        """
        if not self.said.get("add_marker_tokens"):
            return dict.fromkeys((f"{side}_{setting}" for side in _MARKERS), none)
        return {f"{side}_{setting}": marker for side, marker in _MARKERS.items()}

    def state(self, layer: str) -> dict[str, Tensor]:
        """The weights of a layer."""
        found = find_tensors(self.folder, lambda name: name.startswith(f"{layer}."))
        return {name.removeprefix(f"{layer}."): value for name, value in found.items()}

    def fill(self, module: nn.Module, layer: str) -> None:
        """Load the weights of a layer."""
        fill(module, self.state(layer), self.folder)


def _dpr(family: type[DenseBiEncoder], folder: _Folder, wanted: Wanted) -> DenseBiEncoder:
    folder.require(pooling_strategy=tuple(_POOLINGS), similarity_function=("dot", "cosine"), use_adapter=(False,))
    folder.require(sparsification_strategy=(None,))
    folder.own_layers = ("projection.",)
    state = folder.state("projection")
    is_cosine = folder.is_normalised() or folder.said.get("similarity_function") == "cosine"
    model = family(
        folder,
        pooling=_POOLINGS[folder.said["pooling_strategy"]],  # type: ignore[arg-type]
        projection_dim=len(state["weight"]) if state else None,
        projection_bias="bias" in state,
        similarity="cosine" if is_cosine else "dot",
        **folder.markers("prompt", none=""),
        **folder.read(wanted),
    )
    for projection in model.document_tower.projections:
        assert isinstance(projection, Projection)
        fill(projection.linear, state, folder.folder)
    return model


def _splade(family: type[SPLADE], folder: _Folder, wanted: Wanted) -> SPLADE:
    folder.require(sparsification_strategy=tuple(_ACTIVATIONS), pooling_strategy=("max", "sum"), use_adapter=(False,))
    folder.require(similarity_function=("dot",), add_marker_tokens=(False,), doc_weighting=("contextualized",))
    folder.require(doc_expansion=(True,), query_weighting=("contextualized", "static", None))
    weighting = folder.said.get("query_weighting", "contextualized")
    if weighting == "contextualized":
        folder.require(query_expansion=(True,))  # without it, Lightning IR counts special tokens as words
    folder.own_layers = ("query_weights.",)  # without a weighting each word, [UNK] included, has the weight 1
    special = folder.load_tokenizer().num_special_tokens_to_add()
    model = family(
        folder,
        query_encoding="mlm" if weighting == "contextualized" else "static",
        pooling=folder.said["pooling_strategy"],
        activation=_ACTIVATIONS[folder.said["sparsification_strategy"]],  # type: ignore[arg-type]
        **folder.read(wanted, extra_tokens={} if weighting == "contextualized" else {"query": special}),
    )
    if model.static_weights is not None and weighting == "static":
        model.static_weights.data = folder.state("query_weights")["weight"].flatten().float()
    return model


def _col(family: type[ColBERT], folder: _Folder, wanted: Wanted) -> ColBERT:
    folder.require(similarity_function=("dot", "cosine"), query_mask_scoring_tokens=(None,), doc_expansion=(False,))
    folder.require(query_aggregation_function=("sum",), doc_aggregation_function=("max",), use_adapter=(False,))
    if not folder.is_normalised() and folder.said.get("similarity_function") != "cosine":
        raise UserError(f"{folder.folder}: ColBERT with token vectors that are not normalised is not supported")
    folder.own_layers = ("projection.",)
    state = folder.state("projection")
    model = family(
        folder,
        dim=len(state["weight"]),
        query_expansion=folder.said.get("query_expansion", False),
        attend_to_expansion=folder.said.get("attend_to_query_expanded_tokens", False),
        **folder.markers("marker", none=None),
        **folder.read(wanted),
    )
    skipped = folder.said.get("doc_mask_scoring_tokens") or ()
    model.skip(string.punctuation if skipped == "punctuation" else skipped)
    width = model.encoder.config.hidden_size
    projection = Projection(width, len(state["weight"]), bias="bias" in state)
    fill(projection.linear, state, folder.folder)
    model.projections[0] = projection
    return model


def _mono(family: type[LinearMono], folder: _Folder, wanted: Wanted) -> LinearMono:
    folder.require(pooling_strategy=("first",), scoring_strategy=("rank", "mono"), _bert_pool=(False,))
    folder.require(is_encoder_decoder=(False,), use_adapter=(False,))
    folder.own_layers = ("linear.",)
    labels = 2 if folder.said.get("scoring_strategy") == "mono" else 1
    bias = bool(folder.said.get("linear_bias"))
    model = family(folder, labels=labels, bias=bias, **folder.read(wanted))  # type: ignore[arg-type]
    folder.fill(model.linear, "linear")
    return model


def _set_encoder(family: type[SetEncoder], folder: _Folder, wanted: Wanted) -> SetEncoder:
    folder.require(pooling_strategy=("first",), _bert_pool=(False,), linear_bias=(False,), use_adapter=(False,))
    folder.require(scoring_strategy=("rank",))
    folder.own_layers = ("linear.",)
    model = family(folder, extra_token=folder.said["add_extra_token"], **folder.read(wanted))
    folder.fill(model.linear, "linear")
    return model


DPR = Kind("lir-dpr", _dpr)
SPARSE = Kind("splade", _splade)
COL = Kind("col", _col)
MONO = Kind("mono", _mono)
SET_ENCODER = Kind("set-encoder", _set_encoder)


def refuse_unknown(content: Content) -> None:
    """Refuse a folder of another kind of Lightning IR.

    Raises:
        UserError: naming the kind, and the supported kinds.
    """
    if _KIND in content.config and not content.is_listed:
        known = ", ".join(kind.name for kind in (DPR, SPARSE, COL, MONO, SET_ENCODER))
        raise UserError(
            f"{content.folder}: Lightning IR's {content.config.get('model_type')} is not supported; supported: {known}"
        )
