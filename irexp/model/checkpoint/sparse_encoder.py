"""SPLADE checkpoints: sentence-transformers' SparseEncoder, naver's plain folders, OpenSearch's document-only models.

The folder is a masked language model, with or without a list of modules that ends in SpladePooling. If queries and
documents are encoded differently, a Router has one list for each. SparseStaticEmbedding is a weight per word. Alone it
replaces the encoder. After SpladePooling it multiplies the weights of the text's words and sets all others to zero: a
lexical side is written with weights of one, and zero for special tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    read_json,
    read_optional,
    read_tensors,
    save_tokenizer,
    write_json,
    write_modules,
    write_settings,
)
from irexp.model.checkpoint.modules import (
    ROUTER,
    Module,
    ModuleBackbone,
    read_config,
    read_prompts,
    read_routes,
    write_router,
)
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.splade import SPLADE

_MODULES = "sentence_transformers.sparse_encoder.modules"
_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "SpladePooling": f"{_MODULES}.splade_pooling.SpladePooling",
    "SparseStaticEmbedding": f"{_MODULES}.sparse_static_embedding.SparseStaticEmbedding",
}

_ACTIVATIONS = {"relu": "log1p", "log1p_relu": "log1p_log1p"}

#: The modules of each encoding.
_ROUTES = {
    "mlm": ("Transformer", "SpladePooling"),
    "lexical": ("Transformer", "SpladePooling", "SparseStaticEmbedding"),
    "static": ("SparseStaticEmbedding",),
    "binary": ("SparseStaticEmbedding",),
}


def recognises(content: Content) -> bool:
    """Whether the list of modules contains SpladePooling."""
    routes = read_routes(content.folder) if content.is_listed else ()
    return any(module.kind == "SpladePooling" for route in routes for module in route)


def save(model: SPLADE, folder: Path) -> None:
    """Write a model."""
    encodings = {"query": model.query_encoding, "document": model.document_encoding}
    write_settings(folder, model, query_encoding=encodings["query"], document_encoding=encodings["document"])
    is_routed = encodings["query"] != encodings["document"]
    routes = {}
    for side, encoding in encodings.items():
        kinds = _ROUTES[encoding]
        owner = side if len(kinds) == 1 else "document"  # both sides share their common modules
        places = [f"{owner}_{i}_{kind}" if is_routed else f"{i}_{kind}" * (i > 0) for i, kind in enumerate(kinds)]
        routes[side] = [(_TYPES[kind], place) for kind, place in zip(kinds, places, strict=True)]
    for kind, place in {*routes["query"], *routes["document"]}:
        (folder / place).mkdir(exist_ok=True)
        if kind == _TYPES["Transformer"]:
            _save_encoder(model, folder / place)
        elif kind == _TYPES["SpladePooling"]:
            activation = next(name for name, ours in _ACTIVATIONS.items() if ours == model.activation)
            pooling = {"pooling_strategy": model.pooling, "activation_function": activation}
            write_json(folder / place / "config.json", pooling | {"embedding_dimension": model.embedding_dim})
        else:
            _save_static(model, folder / place, is_alone=place.startswith("query"))
    if is_routed:
        write_router(folder, routes["query"], routes["document"])
    write_modules(
        folder,
        ROUTER if is_routed else routes["document"],
        model_type="SparseEncoder",
        prompts={"query": model.query_prompt, "document": model.document_prompt},
        similarity_fn_name="dot",
        max_active_dims=model.max_active_dims,
    )


def _save_encoder(model: SPLADE, folder: Path) -> None:
    model.masked_lm().save_pretrained(folder)
    model.split()
    save_tokenizer(model.tokenizer, folder)
    settings = {
        "transformer_task": "fill-mask",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "token_embeddings",
        "query_length": model.query_length,
        "document_length": model.document_length,
    }
    write_json(folder / "sentence_bert_config.json", settings)


def _save_static(model: SPLADE, folder: Path, *, is_alone: bool) -> None:
    """Write a weight per word: learned, or 1, with 0 for special tokens.

    Args:
        model: the model.
        folder: the module's folder.
        is_alone: whether it encodes queries without an encoder, with its own tokenizer, which adds no special tokens.
    """
    learned_V = model.static_weights if is_alone else None
    weight_V = _ones(model) if learned_V is None else learned_V.detach().cpu()
    save_file({"weight": weight_V.contiguous()}, folder / "model.safetensors")
    write_json(folder / "config.json", {"frozen": learned_V is None})
    save_tokenizer(model.tokenizer, folder)
    if is_alone:
        path = folder / "tokenizer_config.json"
        words = model.query_length - model.tokenizer.num_special_tokens_to_add()
        write_json(path, read_json(path) | {"model_max_length": words})


def _ones(model: SPLADE) -> Tensor:
    """1 for each word of the vocabulary, 0 for special tokens."""
    weight_V = torch.ones(model.embedding_dim)
    weight_V[model.tokenizer.all_special_ids] = 0.0
    return weight_V


def load(family: type[SPLADE], folder: Path, wanted: Wanted) -> SPLADE:
    """Load a folder; an encoding of queries or documents that it does not set is the configured model's.

    Raises:
        UserError: if a module or a setting is not supported, or a weight is missing or unexpected.
    """
    settings, config = read_optional(folder / SETTINGS), read_config(folder)
    if (similarity := config.get("similarity_fn_name") or "dot") != "dot":
        raise UserError(f"{folder}: the similarity {similarity!r} is not supported in a sparse model; supported: dot")
    query, document = (_parts(route, folder) for route in read_routes(folder))
    backbone = ModuleBackbone(document["Transformer"], trust_remote_code=wanted.trust_remote_code)
    lengths = backbone.lengths()
    if "Transformer" not in query:
        lengths["query_length"] = ModuleBackbone(query["SparseStaticEmbedding"]).words(backbone.longest())
    encodings = _encodings(folder, query, document, settings, wanted)
    said = {"max_active_dims": config.get("max_active_dims"), **_pooling(document), **read_prompts(config)}
    if not settings and not (folder / "modules.json").is_file():  # a bare transformer leaves all of it open
        said |= {key: wanted.like[key] for key in said if key in wanted.like}
    model = family(backbone, **said, **encodings, **wanted.name_and_lengths(folder, lengths | settings))
    if model.static_weights is not None and "SparseStaticEmbedding" not in query:
        raise UserError(f"{folder} has no weights for model.query_encoding=static; choose another encoding")
    for side, parts in (("query", query), ("document", document)):
        if "SparseStaticEmbedding" in parts:
            _read_static(model, parts["SparseStaticEmbedding"], encodings[f"{side}_encoding"])
    return model


def _encodings(
    folder: Path, query: dict[str, Path], document: dict[str, Path], settings: dict[str, Any], wanted: Wanted
) -> dict[str, Any]:
    """The encodings of queries and documents."""
    said = {}
    for side, parts in (("query", query), ("document", document)):
        if "SparseStaticEmbedding" in parts:
            said[f"{side}_encoding"] = "lexical" if "Transformer" in parts else "static"
        else:
            said[f"{side}_encoding"] = wanted.like.get(f"{side}_encoding", "mlm")
    said |= {key: settings[key] for key in said if key in settings}
    if query.get("Transformer", document["Transformer"]) != document["Transformer"]:
        raise UserError(f"{folder}: separate encoders for queries and documents are not supported in a sparse model")
    return said


def _pooling(document: dict[str, Path]) -> dict[str, Any]:
    pooling = read_json(document["SpladePooling"] / "config.json") if "SpladePooling" in document else {}
    activation = pooling.get("activation_function", "relu")
    if activation not in _ACTIVATIONS:
        raise UserError(
            f"{document['SpladePooling']}: the activation {activation!r} is not supported; supported: "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return {"pooling": pooling.get("pooling_strategy", "max"), "activation": _ACTIVATIONS[activation]}


def _read_static(model: SPLADE, folder: Path, encoding: str) -> None:
    """Read a weight per word; unless they are learned, they must be 1, and 0 for special tokens."""
    weight_V = read_tensors(folder)["weight"].flatten().float()
    if len(weight_V) != model.embedding_dim:
        raise UserError(f"{folder}: {len(weight_V)} weights for a vocabulary of {model.embedding_dim} words")
    if encoding == "static" and model.static_weights is not None:
        fill(_Weights(model.static_weights), {"weight": weight_V}, folder)
        return
    if encoding == "binary":  # queries have no special tokens there
        weight_V[model.tokenizer.all_special_ids] = 0.0
    if not torch.equal(weight_V, _ones(model)):
        raise UserError(f"{folder}: weights per word after an encoder are only supported if all are 1")


class _Weights(torch.nn.Module):
    """A module around one parameter, so that `fill` can load it."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def _parts(route: list[Module], folder: Path) -> dict[str, Path]:
    """The folders of a list of modules, by their kinds.

    Raises:
        UserError: if the list is neither one of `_ROUTES` nor a single transformer.
    """
    parts = {module.kind.removeprefix("MLM"): module.folder for module in route}
    if tuple(parts) not in (*_ROUTES.values(), ("Transformer",)) or len(parts) != len(route):
        known = "; ".join(", ".join(kinds) for kinds in dict.fromkeys(_ROUTES.values()))
        raise UserError(
            f"{folder}: the modules {', '.join(module.kind for module in route)} are not supported in a sparse model; "
            f"supported: {known}"
        )
    return parts
