"""SPLADE checkpoints: sentence-transformers' SparseEncoder, naver's plain folders, OpenSearch's document-only ones.

The plain layout is a masked language model, with or without a list of modules that ends in SpladePooling. Where queries
are not encoded, the list holds a Router: the masked language model on the documents' side and SparseStaticEmbedding, a
weight for each word, on the queries'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
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
from irexp.model.splade import SPLADE
from irexp.types import UserError

_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_POOLING = "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"
_STATIC = "sentence_transformers.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding"
_ROUTER = "sentence_transformers.base.modules.router.Router"

_ACTIVATIONS = {"relu": "log1p", "log1p_relu": "log1p_log1p"}

_QUERY, _DOCUMENT = "query_0_SparseStaticEmbedding", "document_0_Transformer"


def save_splade(model: SPLADE, folder: Path) -> None:
    """Write a model; a lexical side is one word of `irexp.json`, since the layout has no place for it."""
    write_settings(
        folder, model, "splade", query_encoding=model.query_encoding, document_encoding=model.document_encoding
    )
    config: dict[str, Any] = {"model_type": "SparseEncoder", "prompts": {}, "similarity_fn_name": "dot"}
    if model.query_encoding not in ("static", "binary"):
        _save_encoder(model, folder, folder / "1_SpladePooling")
        write_modules(folder, [(_TRANSFORMER, ""), (_POOLING, "1_SpladePooling")], **config)
        return
    _save_encoder(model, folder / _DOCUMENT, folder / "document_1_SpladePooling")
    (folder / _QUERY).mkdir(exist_ok=True)
    save_tokenizer(model.tokenizer, folder / _QUERY)
    weights = torch.ones(model.embedding_dim) if model.static_weights is None else model.static_weights
    save_file({"weight": weights.detach().cpu().contiguous()}, folder / _QUERY / "model.safetensors")
    write_json(folder / _QUERY / "config.json", {"frozen": model.query_encoding == "binary"})
    pooling = "document_1_SpladePooling"
    router = {
        "types": {_QUERY: _STATIC, _DOCUMENT: _TRANSFORMER, pooling: _POOLING},
        "structure": {"query": [_QUERY], "document": [_DOCUMENT, pooling]},
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }
    write_json(folder / "router_config.json", router)
    write_modules(folder, [(_ROUTER, "")], **config)


def _save_encoder(model: SPLADE, folder: Path, pooling: Path) -> None:
    folder.mkdir(exist_ok=True)
    pooling.mkdir(exist_ok=True)
    model.masked_lm().save_pretrained(folder)
    model.split()
    save_tokenizer(model.tokenizer, folder)
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
        },
    )
    activation = next(name for name, ours in _ACTIVATIONS.items() if ours == model.activation)
    write_json(
        pooling / "config.json",
        {
            "pooling_strategy": model.pooling,
            "activation_function": activation,
            "embedding_dimension": model.embedding_dim,
        },
    )


def is_sparse(folder: Path) -> bool:
    """Whether a list of modules is that of a sparse encoder."""
    kinds = {module["type"].rpartition(".")[2] for module in read_json(folder / "modules.json")}
    router = read_optional(folder / "router_config.json").get("types", {})
    kinds |= {kind.rpartition(".")[2] for kind in router.values()}
    return "SpladePooling" in kinds


def load_splade(folder: Path, wanted: Wanted) -> SPLADE:
    """Open a folder; what it does not say of its queries and documents is taken from the configured model.

    Raises:
        UserError: if a module is not understood, or a weight is missing or left over.
    """
    settings = read_optional(folder / SETTINGS)
    parts = _parts(folder)
    static = parts.get("static")
    pooling = read_json(parts["pooling"] / "config.json") if "pooling" in parts else {}
    activation = pooling.get("activation_function", "relu")
    if activation not in _ACTIVATIONS:
        raise UserError(f"{folder}: the activation {activation!r} is not understood; {', '.join(_ACTIVATIONS)} are")
    open_ = {
        "query_encoding": "static" if static else wanted.like.get("query_encoding", "mlm"),
        "document_encoding": wanted.like.get("document_encoding", "mlm"),
    }
    said = {key: settings.get(key, value) for key, value in open_.items()}
    model = SPLADE(
        HuggingFaceBackbone(str(parts["transformer"])),
        pooling=pooling.get("pooling_strategy", "max"),
        activation=_ACTIVATIONS[activation],  # type: ignore[arg-type]
        **said,
        **wanted.over(folder, settings),
    )
    if model.static_weights is not None and static:
        weight_V = read_tensors(static)["weight"].flatten().float()
        if len(weight_V) != model.embedding_dim:
            raise UserError(f"{static}: {len(weight_V)} weights, where the vocabulary has {model.embedding_dim}")
        fill(_Weights(model.static_weights), {"weight": weight_V}, static)
    elif model.static_weights is not None:
        raise UserError(f"{folder} has no weights for model.query_encoding=static")
    return model


class _Weights(torch.nn.Module):
    """A parameter with a name, so that it is filled as any module is."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def _parts(folder: Path) -> dict[str, Path]:
    """The folders of the transformer, its pooling and the static weights."""
    if not (folder / "modules.json").is_file():
        return {"transformer": folder}
    modules = [(module["type"], module["path"]) for module in read_json(folder / "modules.json")]
    if modules[0][0].endswith(".Router"):
        router = read_json(folder / modules[0][1] / "router_config.json")
        routes = router["structure"]
        types = router["types"]
        if [types[name].rpartition(".")[2] for name in routes["query"]] != ["SparseStaticEmbedding"]:
            raise UserError(
                f"{folder}: queries are routed through {routes['query']}; SparseStaticEmbedding is understood"
            )
        modules = [(types[name], name) for name in (*routes["query"], *routes["document"])]
    known = {
        "Transformer": "transformer",
        "MLMTransformer": "transformer",
        "SpladePooling": "pooling",
        "SparseStaticEmbedding": "static",
    }
    parts: dict[str, Path] = {}
    for kind, path in modules:
        part = known.get(kind.rpartition(".")[2])
        if part is None or part in parts:
            raise UserError(f"{folder}: the module {kind} is not understood by a sparse model; {', '.join(known)} are")
        parts[part] = folder / path
    return parts
