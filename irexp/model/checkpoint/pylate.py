"""ColBERT and XTR checkpoints in the layout of PyLate, or of sentence-transformers' MultiVectorEncoder.

PyLate                the modules Transformer and one or two Dense; prefixes, lengths and skipped words are in
                      config_sentence_transformers.json
MultiVectorEncoder    the same modules, MultiVectorMask and Normalize; lengths are in sentence_bert_config.json

Settings that these layouts have no place for, such as XTR's `k_train`, are in `irexp.json`.
"""

from __future__ import annotations

import copy
import inspect
import logging
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken
from torch import nn

from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    read_json,
    read_optional,
    save_tokenizer,
    write_json,
    write_modules,
    write_settings,
)
from irexp.model.checkpoint.modules import Module, ModuleBackbone, read_config, read_prompts, read_routes
from irexp.model.checkpoint.native import is_setting
from irexp.model.checkpoint.sentence_transformers import load_projection, save_projection
from irexp.model.projection import Projection
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.colbert import ColBERT

log = logging.getLogger(__name__)

_MODULES = ("Transformer", "Dense", "MultiVectorMask", "Normalize")


#: Settings that PyLate's own files hold; irexp.json holds a family's other settings.
_SAID = (
    *("dim", "query_expansion", "attend_to_expansion", "mask_punctuation", "query_prompt", "document_prompt"),
    *("truncate_dim", "matryoshka_dims"),  # the saved projection is cut; only training uses the others
)

#: Settings that both hold, since PyLate's files cannot say that there is no marker.
_MARKERS = ("query_marker", "document_marker")


def recognises(content: Content) -> bool:
    """Whether it is the list of modules of a multi-vector model."""
    if not content.is_listed:
        return False
    config, (query, _) = read_config(content.folder), read_routes(content.folder)
    return (
        config.get("model_type") in ("ColBERT", "MultiVectorEncoder")
        or str(config.get("similarity_fn_name")).lower() == "maxsim"
        or any("pylate" in module["type"] for module in read_json(content.folder / "modules.json"))
        or any(module.kind == "MultiVectorMask" for module in query)
    )


def save(model: ColBERT, folder: Path) -> None:
    """Write a model in PyLate's layout; a warning says whether MultiVectorEncoder would read other scores from it."""
    _warn_about_markers(model)
    _warn_about_prompts(model)
    markers = {key: getattr(model, key) for key in _MARKERS}
    write_settings(folder, model, **(markers | model.settings(except_for=_SAID)))
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    path = folder / "tokenizer_config.json"  # with left padding PyLate would put markers among the padding
    write_json(path, read_json(path) | {"padding_side": "right"})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": model.document_length, "do_lower_case": False})
    modules = [("sentence_transformers.models.Transformer", "")]
    for number, projection in enumerate(model.projections, 1):
        assert isinstance(projection, Projection)
        (folder / f"{number}_Dense").mkdir(exist_ok=True)
        is_last = number == len(model.projections)
        save_projection(projection, folder / f"{number}_Dense", dims=model.embedding_dim if is_last else None)
        modules.append(("pylate.models.Dense.Dense", f"{number}_Dense"))
    write_modules(
        folder,
        modules,
        model_type="ColBERT",
        prompts={"query": model.query_prompt, "document": model.document_prompt},
        similarity_fn_name="MaxSim",
        query_prefix=model.query_marker or "",  # null would be PyLate's default
        document_prefix=model.document_marker or "",
        query_length=model.query_length,
        document_length=model.document_length,
        do_query_expansion=model.query_expansion,
        attend_to_expansion_tokens=model.attend_to_expansion,
        skiplist_words=model.skipped,
    )


def _warn_about_markers(model: ColBERT) -> None:
    """Warn if a marker is not where MultiVectorEncoder puts it, which is in front of the text.

    PyLate inserts it after the first token: the same place if that is a special token, as BERT's [CLS] and unlike T5,
    and if the words after it are tokenized as at the beginning of a text, unlike Llama's.
    """
    markers = {model.query_marker, model.document_marker} - {None, ""}
    tokenizer = copy.deepcopy(model.tokenizer)
    added = [AddedToken(str(marker), normalized=False, special=True) for marker in sorted(map(str, markers))]
    tokenizer.add_tokens(added, special_tokens=True)
    text = "list all"
    for marker, prompt, ours in (
        (model.query_marker, model.query_prompt, model.tokenize_queries([text])),
        (model.document_marker, model.document_prompt, model.tokenize_documents([text])),
    ):
        if marker and tokenizer([marker + prompt + text], verbose=False)["input_ids"] != ours:
            log.warning(
                "%s: PyLate opens the checkpoint with the same scores, but sentence-transformers' MultiVectorEncoder "
                "with others: with this tokenizer it puts the marker %r elsewhere; model.query_marker=null "
                "model.document_marker=null is the same in both",
                model.name,
                marker,
            )
            return


def _warn_about_prompts(model: ColBERT) -> None:
    """Warn of prompts, which PyLate adds only where it is told to; MultiVectorEncoder adds them by itself."""
    if model.query_prompt or model.document_prompt:
        log.warning(
            "%s: irexp puts the prompts %r and %r in front of queries and documents, PyLate only with "
            "prompt_name='query' and prompt_name='document' in its calls of encode; without them its scores differ",
            model.name,
            model.query_prompt,
            model.document_prompt,
        )


def load(family: type[ColBERT], folder: Path, wanted: Wanted) -> ColBERT:
    """Load a folder in the layout of PyLate or of sentence-transformers.

    Raises:
        UserError: if a module or a setting is not supported, or a weight is missing or unexpected.
    """
    settings, config = read_optional(folder / SETTINGS), read_config(folder)
    route, _ = read_routes(folder)
    kinds = [module.kind for module in route]
    if kinds[:1] != ["Transformer"] or not set(kinds) <= set(_MODULES) or sorted(kinds, key=_MODULES.index) != kinds:
        raise UserError(
            f"{folder}: the modules {', '.join(kinds)} are not supported in a ColBERT; supported, in this order: "
            f"{', '.join(_MODULES)}"
        )
    if (similarity := config.get("similarity_fn_name") or "maxsim").lower() not in ("maxsim", "cosine", "dot"):
        raise UserError(f"{folder}: the similarity {similarity!r} is not supported in a ColBERT; supported: maxsim")
    backbone = ModuleBackbone(route[0].folder, trust_remote_code=wanted.trust_remote_code)
    is_new = "MultiVectorMask" in kinds or config.get("model_type") == "MultiVectorEncoder"
    said = _of_multi_vector(folder, backbone, route) if is_new else _of_pylate(config)
    skipped = said.pop("skipped")
    if not settings:
        _refuse_left_padding(folder, backbone, said, is_new=is_new)
    longest = backbone.longest()
    for key in ("query_length", "document_length"):
        if longest is not None and (length := (said | settings)[key]) is not None and length > longest:
            log.warning("%s: %s=%d is more than its transformer reads: %d is used", folder, key, length, longest)
            said[key] = longest
            settings.pop(key, None)
    read = wanted.name_and_lengths(folder, said | settings)
    markers = {key: settings.get(key, said[key]) for key in _MARKERS}
    more = {key: said[key] for key in ("query_expansion", "attend_to_expansion")} | read_prompts(config)
    own = {key: value for key, value in settings.items() if is_setting(key)}
    values = {"mask_punctuation": False} | more | own | markers
    taken = inspect.signature(family).parameters  # XTR is a ColBERT without some of its settings
    model = family(backbone, **{key: value for key, value in values.items() if key in taken}, **read)
    if not settings and not is_new:  # saved by PyLate, which skips [UNK] for each word that the vocabulary lacks
        vocabulary = model.tokenizer.get_vocab()
        skipped = [word if word in vocabulary else str(model.tokenizer.unk_token) for word in skipped]
        _warn_about_prompts(model)
    model.skip(skipped)
    model.projections = nn.ModuleList(load_projection(module.folder) for module in route if module.kind == "Dense")
    return model


def _refuse_left_padding(folder: Path, backbone: ModuleBackbone, said: dict[str, Any], *, is_new: bool) -> None:
    """Refuse what other libraries put at the left of a padded text, where it depends on the batch.

    Raises:
        UserError: naming the setting.
    """
    has_marker = not is_new and (said["query_marker"] or said["document_marker"])
    if backbone.load_tokenizer().padding_side == "left" and (has_marker or said["query_expansion"]):
        raise UserError(
            f"{folder}: padding_side=left in its tokenizer_config.json is not supported in a ColBERT with "
            f"{'markers' if has_marker else 'query expansion'}, whose place would depend on the batch; set it to right"
        )


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
    """The settings of sentence-transformers' own layout; there a marker is part of the prompt, not an added token."""
    places = {module.kind: module.folder for module in route}
    if "Normalize" not in places:
        raise UserError(f"{folder}: a multi-vector model without Normalize is not supported")
    mask = read_json(places["MultiVectorMask"] / "config.json") if "MultiVectorMask" in places else {}
    if mask.get("keep_only_token_ids") or mask.get("skiplist_tasks", ["document"]) != ["document"]:
        raise UserError(f"{folder}: a MultiVectorMask that does more than skip words of documents is not supported")
    expansion = backbone.settings.get("query_expansion")
    if expansion and (expansion.get("strategy") != "fixed" or expansion.get("token") or not mask):
        raise UserError(
            f"{folder}: the query expansion {expansion} is not supported; supported: a fixed length, the tokenizer's "
            f"mask token and a MultiVectorMask"
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
