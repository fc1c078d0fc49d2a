"""Dense checkpoints in the layout of sentence-transformers: of all its versions.

A folder has `modules.json`, a list of modules with their folders; the module types of old and new versions differ in
their paths and agree in their last part. What that layout has no place for is in `irexp.json` beside it: the two
lengths, and the name. A model with an encoder for each side has two such folders, `query` and `document`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, get_args

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
from irexp.model.dense import Activation, DenseBiEncoder, Projection, Tower
from irexp.model.pooling import Pooling
from irexp.types import UserError

log = logging.getLogger(__name__)

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
    write_settings(folder, model, "dense", two_towers=model.has_two_towers, append_eos=model.append_eos)
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
    save_tokenizer(tower.tokenizer, folder)
    modules = [("Transformer", "")]
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    modules.append(("Pooling", _numbered(folder, modules, "Pooling")))
    flags = {flag: pooling == tower.pooling for flag, pooling in _FLAGS.items()}
    dim = int(tower.encoder.config.hidden_size)
    write_json(
        folder / modules[-1][1] / "config.json",
        {"word_embedding_dimension": dim, **flags, "include_prompt": model.pool_prompt},
    )
    for projection in tower.projections:
        assert isinstance(projection, Projection)
        modules.append(("Dense", _numbered(folder, modules, "Dense")))
        save_projection(projection, folder / modules[-1][1])
    if model.is_cosine:
        modules.append(("Normalize", _numbered(folder, modules, "Normalize")))
    write_modules(
        folder,
        [(f"sentence_transformers.models.{kind}", path) for kind, path in modules],
        model_type="SentenceTransformer",
        prompts={"query": model.query_prompt, "document": model.document_prompt},
        similarity_fn_name="cosine" if model.is_cosine else "dot",
        truncate_dim=model.truncate_dim,
    )


def _numbered(folder: Path, modules: list[tuple[str, str]], kind: str) -> str:
    name = f"{len(modules)}_{kind}"
    (folder / name).mkdir(exist_ok=True)
    return name


def save_projection(projection: Projection, folder: Path) -> None:
    """Write a Dense module."""
    linear = projection.linear
    module = type(projection.activate)
    config = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation_function": f"{module.__module__}.{module.__name__}",
    }
    write_json(folder / "config.json", config)
    state = {f"linear.{key}": value.detach().cpu().contiguous() for key, value in linear.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def load_dense(folder: Path, wanted: Wanted) -> DenseBiEncoder:
    """Open a folder that irexp or sentence-transformers saved, or a plain transformer.

    Raises:
        UserError: if a module is not understood, or a weight is missing or left over.
    """
    settings = read_optional(folder / SETTINGS)
    sides = (folder / "document", folder / "query") if settings.get("two_towers") else (folder, None)
    document, query = _read_modules(sides[0]), _read_modules(sides[1]) if sides[1] else None
    read = wanted.over(folder, settings)
    model = DenseBiEncoder(
        HuggingFaceBackbone(str(document["transformer"])),
        name=read["name"],
        pooling=document["pooling"],
        similarity=document["similarity"],
        query_length=read["query_length"] or (query or document)["length"],
        document_length=read["document_length"] or document["length"],
        query_prompt=document["query_prompt"],
        document_prompt=document["document_prompt"],
        pool_prompt=document["pool_prompt"],
        query_backbone=HuggingFaceBackbone(str(query["transformer"])) if query else None,
        append_eos=settings.get("append_eos", False),
        truncate_dim=document["truncate_dim"],
    )
    model.document_tower.projections.extend(load_projection(path) for path in document["dense"])
    if query:
        model.query_tower.projections.extend(load_projection(path) for path in query["dense"])
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
        "truncate_dim": None,
    }
    if not (folder / "modules.json").is_file():
        log.info("%s has no modules.json: mean pooling, as sentence-transformers does", folder)
        return found
    is_normalised = False
    for module in read_json(folder / "modules.json"):
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
    config = read_json(path)
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
    config = read_optional(path)
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
        "truncate_dim": config.get("truncate_dim"),
    }


def _length(path: Path) -> int | None:
    config = read_optional(path / "sentence_bert_config.json")
    if length := config.get("max_seq_length"):
        return int(length)
    tokenizer = read_optional(path / "tokenizer_config.json")
    length = tokenizer.get("model_max_length")
    return int(length) if length and length < 10**9 else None


def load_projection(folder: Path) -> Projection:
    """A Dense module."""
    config = read_json(folder / "config.json")
    activation = config.get("activation_function", "torch.nn.modules.linear.Identity").rpartition(".")[2]
    if activation not in get_args(Activation):
        raise UserError(
            f"{folder}: the activation {activation} is not understood; {', '.join(get_args(Activation))} are"
        )
    if config.get("use_residual"):
        raise UserError(f"{folder}: a Dense with use_residual is not understood")
    projection = Projection(
        config["in_features"], config["out_features"], bias=config.get("bias", True), activation=activation
    )
    state = {key.removeprefix("linear."): value for key, value in read_tensors(folder).items()}
    fill(projection.linear, state, folder)
    return projection
