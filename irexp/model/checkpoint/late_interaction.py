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
from irexp.model.checkpoint.modules import Module, ModuleBackbone, read_config, read_prompts, read_routes
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
        prompts={"query": model.query_prompt, "document": model.document_prompt},
        similarity_fn_name="MaxSim",
        query_prefix=model.query_marker or "",  # null would be PyLate's own
        document_prefix=model.document_marker or "",
        query_length=model.query_length,
        document_length=model.document_length,
        do_query_expansion=model.query_expansion,
        attend_to_expansion_tokens=model.attend_to_expansion,
        skiplist_words=model.skipped,
    )


def is_late_interaction(folder: Path) -> bool:
    """Whether a list of modules is that of a multi-vector model."""
    config = read_config(folder)
    return (
        config.get("model_type") in ("ColBERT", "MultiVectorEncoder")
        or str(config.get("similarity_fn_name")).lower() == "maxsim"
        or any("pylate" in module["type"] for module in read_json(folder / "modules.json"))
        or any(module.kind == "MultiVectorMask" for module in read_routes(folder)[0])
    )


def load_colbert(folder: Path, wanted: Wanted) -> ColBERT:
    """Open a folder in the layout of PyLate or of sentence-transformers.

    Raises:
        UserError: if a module or a setting is not understood, or a weight is missing or left over.
    """
    settings, config = read_optional(folder / SETTINGS), read_config(folder)
    route, _ = read_routes(folder)
    kinds = [module.kind for module in route]
    if kinds[:1] != ["Transformer"] or not set(kinds) <= set(_MODULES) or sorted(kinds, key=_MODULES.index) != kinds:
        raise UserError(
            f"{folder}: the modules {', '.join(kinds)} are not understood by ColBERT; {', '.join(_MODULES)} are, in "
            f"this order"
        )
    if (similarity := config.get("similarity_fn_name") or "maxsim").lower() not in ("maxsim", "cosine", "dot"):
        raise UserError(f"{folder}: the similarity {similarity!r} is not understood by ColBERT; maxsim is")
    backbone = ModuleBackbone(route[0].folder)
    is_new = "MultiVectorMask" in kinds or config.get("model_type") == "MultiVectorEncoder"
    said = _of_multi_vector(folder, backbone, route) if is_new else _of_pylate(config)
    skipped = said.pop("skipped")
    read = wanted.over(folder, said | settings)
    markers = {key: settings.get(key, said[key]) for key in ("query_marker", "document_marker")}
    if settings.get("family") == "xtr":
        model: ColBERT = XTR(backbone, k_train=settings["k_train"], **markers, **read)
    else:
        rest = {key: said[key] for key in ("query_expansion", "attend_to_expansion")}
        model = ColBERT(backbone, mask_punctuation=False, **markers, **rest, **read_prompts(config), **read)
    model.skip(skipped)
    model.projections = nn.ModuleList(load_projection(module.folder) for module in route if module.kind == "Dense")
    return model


def _of_pylate(config: dict[str, Any]) -> dict[str, Any]:
    skipped = config.get("skiplist_words")
    markers = {f"{side}_marker": config.get(f"{side}_prefix") for side in ("query", "document")}
    defaults = {"query_marker": "[Q] ", "document_marker": "[D] "}
    return {
        **{key: defaults[key] if marker is None else marker or None for key, marker in markers.items()},
        "query_length": config.get("query_length") or 32,
        "document_length": config.get("document_length") or 180,
        "query_expansion": config.get("do_query_expansion", True),
        "attend_to_expansion": bool(config.get("attend_to_expansion_tokens")),
        "skipped": list(string.punctuation) if skipped is None else skipped,
    }


def _of_multi_vector(folder: Path, backbone: ModuleBackbone, route: list[Module]) -> dict[str, Any]:
    """What sentence-transformers' own layout says; its prompts are texts, a marker among them a token of the text."""
    places = {module.kind: module.folder for module in route}
    if "Normalize" not in places:
        raise UserError(f"{folder}: a multi-vector model without Normalize is not understood")
    mask = read_json(places["MultiVectorMask"] / "config.json") if "MultiVectorMask" in places else {}
    if mask.get("keep_only_token_ids") or mask.get("skiplist_tasks", ["document"]) != ["document"]:
        raise UserError(f"{folder}: a MultiVectorMask that does more than skip words of documents is not understood")
    expansion = backbone.settings.get("query_expansion")
    if expansion and (expansion.get("strategy") != "fixed" or expansion.get("token") or not mask):
        raise UserError(
            f"{folder}: the query expansion {expansion} is not understood; a fixed length, the tokenizer's mask and a "
            f"MultiVectorMask are"
        )
    lengths = backbone.lengths()
    return {
        "query_marker": None,
        "document_marker": None,
        "query_length": expansion["length"] if expansion else lengths["query_length"],
        "document_length": lengths["document_length"],
        "query_expansion": bool(expansion),
        "attend_to_expansion": bool(expansion and expansion.get("attend")),
        "skipped": mask.get("skiplist_words") or [],
    }


def load_stanford(folder: Path, wanted: Wanted) -> ColBERT:
    """Open a folder of Stanford's ColBERT; without artifact.metadata, with the values that it has by default.

    Raises:
        UserError: if it is trained with another similarity than the cosine, or lacks its linear layer.
    """
    said = read_optional(folder / "artifact.metadata")
    if said.get("similarity", "cosine") != "cosine":
        raise UserError(f"{folder}: the similarity {said['similarity']!r} is not understood; cosine is")
    state = find_tensors(folder, lambda name: name.startswith("linear."))
    if "linear.weight" not in state:
        raise UserError(f"{folder}: missing weights ['linear.weight']")
    backbone = ModuleBackbone(folder)
    backbone.own_layers = ("linear.",)
    document_length = said.get("doc_maxlen") or min(220, backbone.longest() or 220)
    lengths = {"query_length": said.get("query_maxlen") or 32, "document_length": document_length}
    model = ColBERT(
        backbone,
        query_marker=said.get("query_token_id", "[unused0]"),
        document_marker=said.get("doc_token_id", "[unused1]"),
        attend_to_expansion=bool(said.get("attend_to_mask_tokens")),
        mask_punctuation=said.get("mask_punctuation", True),
        dim=len(state["linear.weight"]),
        **wanted.over(folder, lengths),
    )
    (projection,) = model.projections
    assert isinstance(projection, Projection)
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
