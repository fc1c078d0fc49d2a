"""Load a checkpoint, recognised by its content, and save one: `model = load("folder or hub name")`."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from irexp.artifact.content import exists, is_hub_name
from irexp.artifact.hub import fetch_model
from irexp.backbone.backbone import Backbone
from irexp.backbone.tokenizer import check_padding_side
from irexp.model.adapter import make_like, make_recipe
from irexp.model.checkpoint.files import SETTINGS, Content, Wanted
from irexp.model.checkpoint.layout import Reader
from irexp.model.checkpoint.lightning_ir import refuse_unknown
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.contradiction import contradictions
from irexp.model.dense import DenseBiEncoder
from irexp.model.family import find_family
from irexp.model.linear_mono import LinearMono
from irexp.model.lora import base_of, is_adapter, load_adapter, merge
from irexp.model.matryoshka import Nested
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The families tried, in this order, on folders of other libraries; folders with irexp.json name their family.
_FOREIGN: tuple[type[Model], ...] = (
    *(SetEncoder, LinearMono, COIL, XTR, UniCOIL, ColBERT, SPLADE, TokenLogit, Mono, DenseBiEncoder),
)

#: Files that mark a folder as a checkpoint, for the message if none is found.
_LOOKED_FOR = (SETTINGS, "modules.json", "artifact.metadata", "adapter_config.json", "config.json")


def load(
    checkpoint: str | Path,
    *,
    name: str | None = None,
    query_length: int | None = None,
    document_length: int | None = None,
    truncate_dim: int | None = None,
    revision: str | None = None,
    like: partial[Model] | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Load a model.

    Args:
        checkpoint: a folder, of a model or of adapters, or a name on the hub.
        name: the model's name in tables; None for the checkpoint's own.
        query_length: tokens kept per query; None for the checkpoint's value.
        document_length: tokens kept per document; None for the checkpoint's value.
        truncate_dim: the leading dimensions that are kept of each vector, for a model that was trained with
            `matryoshka_dims`; None for those of `like`, else the checkpoint's value.
        revision: the commit on the hub; None for the cached one, else the newest.
        like: a configured model, which decides where the files do not: a masked language model may be a SPLADE or the
            encoder of a dense model, a T5 a monoT5 or a RankT5. Without it a masked language model becomes a dense
            model, and a T5 a monoT5. Its `truncate_dim` and `matryoshka_dims` are used. A warning names settings that
            contradict the checkpoint's, which are used.
        trust_remote_code: whether Python code shipped with the checkpoint may be run. A backbone of `like` may allow
            it, too; no file of the checkpoint can.

    Raises:
        UserError: if there is no such checkpoint, its format is not supported, or its vectors cannot be cut.
    """
    model = _load(checkpoint, name, query_length, document_length, revision, like, trust_remote_code)
    _choose_dims(model, like, truncate_dim)
    if like is not None and (differing := list(contradictions(model, like))):
        log.warning(
            "%s: its own settings are used, not those of the configuration: %s", checkpoint, "; ".join(differing)
        )
    return model.eval()


def _load(
    checkpoint: str | Path,
    name: str | None,
    query_length: int | None,
    document_length: int | None,
    revision: str | None,
    like: partial[Model] | None,
    trust_remote_code: bool,
) -> Model:
    settings = like.keywords if like is not None else {}
    is_trusted = any(value.trust_remote_code for value in settings.values() if isinstance(value, Backbone))
    wanted = Wanted(name, query_length, document_length, settings, trust_remote_code or is_trusted)
    folder = _folder(str(checkpoint), revision, wanted)
    if is_adapter(folder) and not (folder / "modules.json").is_file():
        return merge(load_adapter(_without_adapters(folder, wanted, like), folder))
    found = recognise(folder, _kind(like))
    model: Model = found.layout.load(found.family, folder, wanted)
    if model.new_tokens:
        missing = ", ".join(map(repr, model.new_tokens))
        raise UserError(
            f"{folder}: the vocabulary lacks {missing}, which the model needs, and no vector is saved for it; add the "
            f"token to the tokenizer and its vector to the weights"
        )
    for encoder, tokenizer in model.encoders().values():
        check_padding_side(encoder, tokenizer)
    return model


def _choose_dims(model: Model, like: partial[Model] | None, truncate_dim: int | None) -> None:
    """Cut a model's vectors, and set the numbers of dimensions to train, as a call or the configuration says.

    Raises:
        UserError: if a model without such vectors is to be cut.
    """
    said = like.keywords if like is not None else {}
    if isinstance(model, Nested):
        dims = said.get("matryoshka_dims") or model.matryoshka_dims
        wanted = said.get("truncate_dim") if truncate_dim is None else truncate_dim
        model.choose_dims(model.truncate_dim if wanted is None else wanted, dims)
    elif truncate_dim is not None:
        raise UserError(
            f"truncate_dim={truncate_dim}: {model.name} is a {type(model).__name__}, without vectors whose leading "
            f"dimensions suffice; leave it out"
        )


def _kind(like: partial[Model] | None) -> type[Model] | None:
    """The class of the configured model."""
    return like.func if like is not None and isinstance(like.func, type) else None


def _without_adapters(folder: Path, wanted: Wanted, like: partial[Model] | None) -> Model:
    """The model that adapters belong to: the recipe of their irexp.json, else the base model that they name.

    Raises:
        UserError: if they name no base model, or one that is a bare transformer, so that the model is unknown.
    """
    if (folder / SETTINGS).is_file():
        return make_recipe(folder, wanted, _kind(like))
    name = base_of(folder)
    base = _folder(name, None, wanted)
    if is_adapter(base) and base.resolve() != folder.resolve():  # of a second round of training
        return merge(load_adapter(_without_adapters(base, wanted, like), base))
    kind, found = _kind(like), recognise(base)
    is_classifier = found.family is Mono and kind is Mono  # its head and activation are in its files
    if like is not None and not found.is_retrieval_model and not is_classifier:
        if kind is not None:
            _bare(Content(base), kind)  # refuses families whose layers neither the base nor the adapters have
        return make_like(like, folder, base, wanted)
    if found.is_guess:
        raise UserError(
            f"{folder}: its adapters are for {name}, a bare transformer, and no file names the model; name it with "
            f"load(…, like=partial(DenseBiEncoder, pooling='last', …)), or with model=… for a stage"
        )
    model: Model = found.layout.load(found.family, base, replace(wanted, name=wanted.name or folder.name))
    return model


class Found(NamedTuple):
    """The family and the layout of a folder.

    Attributes:
        family: the class that it is loaded as.
        layout: the layout that reads it.
        is_retrieval_model: whether its files mark it as a retrieval model, rather than as a bare transformer.
        is_guess: whether the files leave open how its vectors are made.
    """

    family: type[Model]
    layout: Reader
    is_retrieval_model: bool = True
    is_guess: bool = False


def recognise(folder: Path, kind: type[Model] | None = None) -> Found:
    """The family and the layout of a folder, recognised by its files and the names of its weights.

    Args:
        folder: the checkpoint.
        kind: the class of the configured model, which decides where the files do not.

    Raises:
        UserError: naming the files that were looked for, or the part of BGE-M3 that is not supported.
    """
    content = Content(folder)
    if name := content.settings.get("family"):
        family = find_family(name, folder / SETTINGS, kind)
        return Found(family, family.layout)
    if not any(content.has(name) for name in ("artifact.metadata", "modules.json", "config.json")):
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} is not a checkpoint: it has none of {', '.join(_LOOKED_FOR)}; it has {there}")
    own = (kind,) if kind is not None and kind not in _FOREIGN else ()
    for family in (*own, *_FOREIGN):
        for layout in family.reads:
            if layout.recognises(content):
                if kind is not None and not issubclass(kind, family):
                    _refuse_parts(content, family, kind)
                return Found(family, layout, is_retrieval_model=family is not Mono or content.is_listed)
    return _bare(content, kind)


def _refuse_parts(content: Content, family: type[Model], kind: type[Model]) -> None:
    """Refuse a folder of BGE-M3 as a family whose extra layer it has in a file that is not read.

    Raises:
        UserError: naming the file.
    """
    for name, part in (("colbert_linear.pt", "tokens"), ("sparse_linear.pt", "sparse")):
        if content.has(name) and getattr(kind, "representation", None) == part:
            raise UserError(
                f"{content.folder}: {name}, BGE-M3's layer for a {kind.__name__}, is not supported; the folder opens "
                f"as a {family.__name__}: load it without like=…, or with model=sbert for a stage"
            )


def _bare(content: Content, kind: type[Model] | None) -> Found:
    """A bare transformer: opened as the configured family, else as a monoT5 or a dense model."""
    refuse_unknown(content)
    if kind is not None:
        if kind.begins_bare:
            return Found(kind, kind.layout, is_retrieval_model=False)
        raise UserError(
            f"{content.folder} is a bare {content.architecture or 'transformer'} without the parts of a "
            f"{kind.__name__} (looked for {', '.join(_LOOKED_FOR[:3])}, model.pt, 2_Dense and the weights linear and "
            f"tok_proj); to start from it, set it as backbone.name_or_path and fine-tune"
        )
    if content.architecture.endswith("ForConditionalGeneration") and content.config.get("is_encoder_decoder"):
        return Found(TokenLogit, TokenLogit.layout, is_retrieval_model=False)
    if content.architecture.endswith("ForMaskedLM"):
        log.warning(
            "%s is a bare masked language model: opened as a dense model; for a SPLADE use model=splade, or in Python "
            "load(…, like=partial(SPLADE))",
            content.folder,
        )
    return Found(DenseBiEncoder, DenseBiEncoder.layout, is_retrieval_model=False, is_guess=True)


def save(model: Model, folder: str | Path) -> None:
    """Write a checkpoint that `load` opens; README.md lists the other libraries that open it, too.

    Args:
        model: a model of any family.
        folder: created if it does not exist.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    model.layout.save(model, Path(folder))


def _folder(checkpoint: str, revision: str | None, wanted: Wanted) -> Path:
    """The folder of a checkpoint, fetched from the hub if it is a hub name; code is fetched only if it may be run."""
    folder = Path(checkpoint).expanduser()
    if exists(folder) and folder.is_dir():
        return folder
    if exists(folder):
        raise UserError(f"{folder} is a file; a checkpoint is a folder")
    if not is_hub_name(checkpoint):
        raise UserError(f"there is no folder {folder}; a checkpoint is a folder or a name on the hub")
    return fetch_model(checkpoint, revision, with_code=wanted.trust_remote_code)
