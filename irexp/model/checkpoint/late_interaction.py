"""ColBERT and XTR checkpoints: PyLate, sentence-transformers' MultiVectorEncoder, Stanford ColBERT, Google's XTR.

PyLate                a list of modules: Transformer and one or two Dense; prefixes, lengths and skipped words in
                      config_sentence_transformers.json
MultiVectorEncoder    the same with MultiVectorMask and Normalize; lengths in sentence_bert_config.json
Stanford              an encoder with `linear.weight` beside it, and artifact.metadata
XTR                   a T5 encoder, and its layer in 2_Dense
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from torch import nn

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import (
    SETTINGS,
    Wanted,
    fill,
    find_tensors,
    read_json,
    read_optional,
    read_tensors,
    save_tokenizer,
    write_json,
    write_modules,
    write_settings,
)
from irexp.model.checkpoint.sentence_transformers import load_projection, save_projection
from irexp.model.colbert import ColBERT
from irexp.model.dense import Projection
from irexp.model.xtr import XTR
from irexp.types import UserError

_MODULES = ("Transformer", "Dense", "MultiVectorMask", "Normalize")


def save_colbert(model: ColBERT, folder: Path) -> None:
    """Write a model in PyLate's layout."""
    more = {"k_train": model.k_train} if isinstance(model, XTR) else {}
    write_settings(
        folder,
        model,
        "xtr" if isinstance(model, XTR) else "colbert",
        query_marker=model.query_marker,
        document_marker=model.document_marker,
        **more,
    )
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": model.document_length, "do_lower_case": False})
    modules = [("sentence_transformers.models.Transformer", "")]
    for number, projection in enumerate(model.projections, 1):
        assert isinstance(projection, Projection)
        (folder / f"{number}_Dense").mkdir(exist_ok=True)
        save_projection(projection, folder / f"{number}_Dense")
        modules.append(("pylate.models.Dense.Dense", f"{number}_Dense"))
    write_modules(
        folder,
        modules,
        model_type="ColBERT",
        prompts={},
        similarity_fn_name="MaxSim",
        query_prefix=model.query_marker,
        document_prefix=model.document_marker,
        query_length=model.query_length,
        document_length=model.document_length,
        do_query_expansion=model.query_expansion,
        attend_to_expansion_tokens=model.attend_to_expansion,
        skiplist_words=model.skipped,
    )


def is_late_interaction(folder: Path) -> bool:
    """Whether a list of modules is that of a multi-vector model."""
    config = read_optional(folder / "config_sentence_transformers.json")
    kinds = [module["type"] for module in read_json(folder / "modules.json")]
    return (
        config.get("model_type") in ("ColBERT", "MultiVectorEncoder")
        or config.get("similarity_fn_name") == "MaxSim"
        or any("pylate" in kind or kind.endswith("MultiVectorMask") for kind in kinds)
    )


def load_colbert(folder: Path, wanted: Wanted) -> ColBERT:
    """Open a folder in the layout of PyLate or of sentence-transformers."""
    settings = read_optional(folder / SETTINGS)
    config = read_optional(folder / "config_sentence_transformers.json")
    modules = read_json(folder / "modules.json")
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if unknown := [kind for kind in kinds if kind not in _MODULES]:
        raise UserError(f"{folder}: the module {unknown[0]} is not understood by ColBERT; {', '.join(_MODULES)} are")
    transformer = folder / modules[kinds.index("Transformer")]["path"]
    is_new = "MultiVectorMask" in kinds
    said = _of_multi_vector(folder, transformer, modules, config) if is_new else _of_pylate(config)
    skipped = said.pop("skipped")
    backbone = HuggingFaceBackbone(str(transformer))
    read = wanted.over(folder, said | settings)
    if settings.get("family") == "xtr":
        model: ColBERT = XTR(
            backbone,
            k_train=settings["k_train"],
            query_marker=settings["query_marker"],
            document_marker=settings["document_marker"],
            **read,
        )
    else:
        markers = {key: settings.get(key, said[key]) for key in ("query_marker", "document_marker")}
        rest = {key: said[key] for key in ("query_expansion", "attend_to_expansion")}
        model = ColBERT(backbone, mask_punctuation=False, **markers, **rest, **read)
    model.skip(skipped)
    dense = [folder / m["path"] for m, kind in zip(modules, kinds, strict=True) if kind == "Dense"]
    model.projections = nn.ModuleList(load_projection(path) for path in dense)
    return model


def _of_pylate(config: dict[str, Any]) -> dict[str, Any]:
    skipped = config.get("skiplist_words")
    return {
        "query_marker": config.get("query_prefix", "[Q] "),
        "document_marker": config.get("document_prefix", "[D] "),
        "query_length": config.get("query_length") or 32,
        "document_length": config.get("document_length") or 180,
        "query_expansion": config.get("do_query_expansion", True),
        "attend_to_expansion": bool(config.get("attend_to_expansion_tokens")),
        "skipped": list(string.punctuation) if skipped is None else skipped,
    }


def _of_multi_vector(
    folder: Path, transformer: Path, modules: list[dict[str, str]], config: dict[str, Any]
) -> dict[str, Any]:
    read = read_optional(transformer / "sentence_bert_config.json")
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if "Normalize" not in kinds:
        raise UserError(f"{folder}: a multi-vector model without Normalize is not understood")
    mask = read_json(folder / modules[kinds.index("MultiVectorMask")]["path"] / "config.json")
    if mask.get("keep_only_token_ids") or mask.get("skiplist_tasks", ["document"]) != ["document"]:
        raise UserError(f"{folder}: a MultiVectorMask that does more than skip words of documents is not understood")
    expansion = read.get("query_expansion")
    if expansion and (expansion.get("strategy") != "fixed" or expansion.get("length") is None):
        raise UserError(f"{folder}: the query expansion {expansion} is not understood; a fixed length is")
    prompts = config.get("prompts") or {}
    return {
        "query_marker": prompts.get("query") or None,
        "document_marker": prompts.get("document") or None,
        "query_length": expansion["length"] if expansion else read.get("query_length"),
        "document_length": read.get("document_length"),
        "query_expansion": bool(expansion),
        "attend_to_expansion": bool(expansion and expansion.get("attend")),
        "skipped": mask.get("skiplist_words") or [],
    }


def load_stanford(folder: Path, wanted: Wanted) -> ColBERT:
    """Open a folder of Stanford's ColBERT.

    Raises:
        UserError: if it is trained with another similarity than the cosine, or lacks its linear layer.
    """
    said = read_json(folder / "artifact.metadata")
    if said.get("similarity", "cosine") != "cosine":
        raise UserError(f"{folder}: the similarity {said['similarity']!r} is not understood; cosine is")
    model = ColBERT(
        HuggingFaceBackbone(str(folder)),
        query_marker=said.get("query_token_id", "[unused0]"),
        document_marker=said.get("doc_token_id", "[unused1]"),
        attend_to_expansion=bool(said.get("attend_to_mask_tokens")),
        mask_punctuation=said.get("mask_punctuation", True),
        dim=said.get("dim", 128),
        **wanted.over(folder, {"query_length": said.get("query_maxlen"), "document_length": said.get("doc_maxlen")}),
    )
    (projection,) = model.projections
    assert isinstance(projection, Projection)
    state = find_tensors(folder, lambda name: name.startswith("linear."))
    fill(projection.linear, {name.removeprefix("linear."): value for name, value in state.items()}, folder)
    return model


def load_xtr(folder: Path, wanted: Wanted) -> XTR:
    """Open a folder of Google's XTR; its layer stands in a file of sentence-transformers without a configuration."""
    state = {name.removeprefix("linear."): value for name, value in read_tensors(folder / "2_Dense").items()}
    model = XTR(
        HuggingFaceBackbone(str(folder)),
        dim=len(state["weight"]),
        **wanted.over(folder, {"query_length": 32, "document_length": 512}),
    )
    (projection,) = model.projections
    assert isinstance(projection, Projection)
    fill(projection.linear, state, folder / "2_Dense")
    return model
