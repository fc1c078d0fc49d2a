"""Dense checkpoints in the layout of sentence-transformers: of all its versions.

A folder has `modules.json`, a list of modules with their folders; the module types of old and new versions differ in
their paths and agree in their last part. What that layout has no place for is in `irexp.json` beside it: the two
lengths, and the name. A model with an encoder for each side has two such folders, `query` and `document`.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.dense import Activation, DenseBiEncoder, Projection, Tower
from irexp.model.pooling import Pooling
from irexp.types import UserError

log = logging.getLogger(__name__)

SETTINGS = "irexp.json"

#: The legacy flag of each pooling.
_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}

#: The name of each pooling in version 6.
_MODES: dict[str, Pooling] = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}

_UNDERSTOOD = "Transformer, Pooling, Dense, Normalize, Dropout"


def save_dense(model: DenseBiEncoder, folder: Path) -> None:
    """Write a model; two towers go into two folders."""
    settings = {
        "family": "dense",
        "name": model.name,
        "query_length": model.query_length,
        "document_length": model.document_length,
        "two_towers": model.has_two_towers,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf8")
    if not model.has_two_towers:
        _save_tower(model, model.document_tower, folder, model.document_length)
        return
    for side, tower, length in (
        ("query", model.query_tower, model.query_length),
        ("document", model.document_tower, model.document_length),
    ):
        (folder / side).mkdir(exist_ok=True)
        _save_tower(model, tower, folder / side, length)


def _save_tower(model: DenseBiEncoder, tower: Tower, folder: Path, length: int) -> None:
    tower.encoder.save_pretrained(folder)
    tower.tokenizer.save_pretrained(folder)
    modules = [("Transformer", "")]
    _write(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    modules.append(("Pooling", _numbered(folder, modules, "Pooling")))
    flags = {flag: pooling == tower.pooling for flag, pooling in _FLAGS.items()}
    dim = int(tower.encoder.config.hidden_size)
    _write(
        folder / modules[-1][1] / "config.json",
        {"word_embedding_dimension": dim, **flags, "include_prompt": model.pool_prompt},
    )
    for projection in tower.projections:
        assert isinstance(projection, Projection)
        modules.append(("Dense", _numbered(folder, modules, "Dense")))
        _save_projection(projection, folder / modules[-1][1])
    if model.is_cosine:
        modules.append(("Normalize", _numbered(folder, modules, "Normalize")))
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    _write(folder / "modules.json", entries)
    _write(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": model.query_prompt, "document": model.document_prompt},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if model.is_cosine else "dot",
        },
    )


def _numbered(folder: Path, modules: list[tuple[str, str]], kind: str) -> str:
    name = f"{len(modules)}_{kind}"
    (folder / name).mkdir(exist_ok=True)
    return name


def _save_projection(projection: Projection, folder: Path) -> None:
    linear = projection.linear
    module = type(projection.activate)
    config = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation_function": f"{module.__module__}.{module.__name__}",
    }
    _write(folder / "config.json", config)
    state = {f"linear.{key}": value.detach().cpu().contiguous() for key, value in linear.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def load_dense(
    folder: Path,
    *,
    name: str | None = None,
    query_length: int | None = None,
    document_length: int | None = None,
) -> DenseBiEncoder:
    """Open a folder that irexp or sentence-transformers saved, or a plain transformer.

    Args:
        folder: the checkpoint.
        name: what tables call it; None for what the checkpoint says.
        query_length: tokens of a query; None for what the checkpoint says.
        document_length: tokens of a document, likewise.

    Raises:
        UserError: if a module is not understood, or a weight is missing or left over.
    """
    settings = _read(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    sides = (folder / "document", folder / "query") if settings.get("two_towers") else (folder, None)
    document, query = _read_modules(sides[0]), _read_modules(sides[1]) if sides[1] else None
    longest = (query or document)["length"], document["length"]
    model = DenseBiEncoder(
        HuggingFaceBackbone(str(document["transformer"])),
        name=name or settings.get("name") or folder.name,
        pooling=document["pooling"],
        similarity=document["similarity"],
        query_length=query_length or settings.get("query_length") or longest[0],
        document_length=document_length or settings.get("document_length") or longest[1],
        query_prompt=document["query_prompt"],
        document_prompt=document["document_prompt"],
        pool_prompt=document["pool_prompt"],
        query_backbone=HuggingFaceBackbone(str(query["transformer"])) if query else None,
    )
    model.document_tower.projections.extend(_load_projection(path) for path in document["dense"])
    if query:
        model.query_tower.projections.extend(_load_projection(path) for path in query["dense"])
    return model


def _read_modules(folder: Path) -> dict[str, Any]:
    """What a folder's modules say, as settings of a tower."""
    found: dict[str, Any] = {
        "transformer": folder,
        "pooling": "mean",
        "pool_prompt": True,
        "dense": [],
        "length": None,
        "query_prompt": "",
        "document_prompt": "",
        "similarity": "cosine",
    }
    if not (folder / "modules.json").is_file():
        log.info("%s has no modules.json: mean pooling, as sentence-transformers does", folder)
        return found
    is_normalised = False
    for module in _read(folder / "modules.json"):
        kind, path = module["type"].rpartition(".")[2], folder / module["path"]
        if is_normalised and kind != "Dropout":
            raise UserError(f"{folder}: {kind} behind Normalize is not understood")
        if kind == "Transformer":
            found["transformer"], found["length"] = path, _length(path)
        elif kind == "Pooling":
            found |= _pooling(path / "config.json")
        elif kind == "Dense":
            found["dense"].append(path)
        elif kind == "Normalize":
            is_normalised = True
        elif kind != "Dropout":
            raise UserError(
                f"{folder}: the module {module['type']} is not understood by a dense model; {_UNDERSTOOD} are"
            )
    return found | _prompts_and_similarity(folder, is_normalised)


def _pooling(path: Path) -> dict[str, Any]:
    config = _read(path)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        chosen = [_MODES.get(mode, mode) for mode in ([modes] if isinstance(modes, str) else modes)]
    else:
        chosen = [pooling for flag, pooling in _FLAGS.items() if config.get(flag)]
    if len(chosen) != 1 or chosen[0] not in get_args(Pooling):
        raise UserError(f"{path}: a pooling of {' and '.join(map(str, chosen)) or 'nothing'} is not understood")
    return {"pooling": chosen[0], "pool_prompt": config.get("include_prompt", True)}


def _prompts_and_similarity(folder: Path, is_normalised: bool) -> dict[str, Any]:
    path = folder / "config_sentence_transformers.json"
    config = _read(path) if path.is_file() else {}
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name") or "", "")
    documents = [prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)]
    similarity = config.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise UserError(f"{path}: similarity {similarity!r} is not understood; cosine and dot are")
    return {
        "query_prompt": prompts.get("query") or default,
        "document_prompt": documents[0] if documents else default,
        "similarity": "cosine" if is_normalised else similarity,
    }


def _length(path: Path) -> int | None:
    config = _read(path / "sentence_bert_config.json") if (path / "sentence_bert_config.json").is_file() else {}
    if length := config.get("max_seq_length"):
        return int(length)
    tokenizer = _read(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    length = tokenizer.get("model_max_length")
    return int(length) if length and length < 10**9 else None


def _load_projection(folder: Path) -> Projection:
    config = _read(folder / "config.json")
    activation = config.get("activation_function", "torch.nn.modules.linear.Identity").rpartition(".")[2]
    if activation not in get_args(Activation):
        raise UserError(
            f"{folder}: the activation {activation} is not understood; {', '.join(get_args(Activation))} are"
        )
    projection = Projection(
        config["in_features"], config["out_features"], bias=config.get("bias", True), activation=activation
    )
    state = _weights(folder)
    wanted = set(projection.linear.state_dict())
    state = {key.removeprefix("linear."): value for key, value in state.items()}
    if state.keys() != wanted:
        missing, unexpected = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
        raise UserError(f"{folder}: missing weights {missing}, unexpected weights {unexpected}")
    projection.linear.load_state_dict(state)
    return projection


def _weights(folder: Path) -> dict[str, Tensor]:
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    path = folder / "pytorch_model.bin"
    if not path.is_file():
        raise UserError(f"{folder}: there is neither model.safetensors nor pytorch_model.bin")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is not there, though modules.json names its folder: the checkpoint is incomplete")
    return json.loads(path.read_text(encoding="utf8"))
