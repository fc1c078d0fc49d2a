"""Open a checkpoint, recognised by its content, and save one: `model = load("folder or hub name")`."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from irexp.artifact.content import hub_revision
from irexp.backbone.backbone import Backbone
from irexp.model.adapter import make_like, make_recipe
from irexp.model.checkpoint.files import SETTINGS, Content, Wanted
from irexp.model.checkpoint.layout import Reader
from irexp.model.checkpoint.lightning_ir import refuse_unknown
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.family import find_family
from irexp.model.linear_mono import LinearMono
from irexp.model.lora import base_of, is_adapter, load_adapter, merge
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The families that folders of other libraries are compared with, in this order; irexp.json names any family itself.
_FOREIGN: tuple[type[Model], ...] = (
    *(SetEncoder, LinearMono, COIL, XTR, UniCOIL, ColBERT, SPLADE, TokenLogit, Mono, DenseBiEncoder),
)

#: What tells a checkpoint, for the message when nothing does.
_LOOKED_FOR = (SETTINGS, "modules.json", "artifact.metadata", "adapter_config.json", "config.json")

#: What is fetched of a hub model: configuration, tokenizer, and weights, from which nothing is run.
_PATTERNS = [
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.safetensors",
    "artifact.metadata",
    "model.pt",
    "*/pytorch_model.bin",
]


def load(
    checkpoint: str | Path,
    *,
    name: str | None = None,
    query_length: int | None = None,
    document_length: int | None = None,
    revision: str | None = None,
    like: partial[Model] | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Open a model.

    Args:
        checkpoint: a folder, an adapter's too, or a name on the hub.
        name: what tables call it; None for what the checkpoint says.
        query_length: tokens of a query that are read; None for what the checkpoint says.
        document_length: tokens of a document that are read, likewise.
        revision: the hub's commit; None for the one in the cache, else the newest.
        like: a configured model, which says what the content leaves open: a masked language model may be a SPLADE or
            the encoder of a dense model, and a T5 a monoT5 or a RankT5. Without it a masked language model is taken
            for dense, and a T5 for a monoT5.
        trust_remote_code: whether Python code that comes with the checkpoint may be run, which a backbone
            of `like` may say, too; no file of the checkpoint can.

    Raises:
        UserError: if there is no such checkpoint, or it is of no kind that is understood.
    """
    settings = like.keywords if like is not None else {}
    is_trusted = any(value.trust_remote_code for value in settings.values() if isinstance(value, Backbone))
    wanted = Wanted(name, query_length, document_length, settings, trust_remote_code or is_trusted)
    folder = _folder(str(checkpoint), revision, wanted)
    if is_adapter(folder) and not (folder / "modules.json").is_file():
        return merge(load_adapter(_without_adapters(folder, wanted, like), folder)).eval()
    found = recognise(folder, _kind(like))
    model: Model = found.layout.load(found.family, folder, wanted)
    if model.new_tokens:
        missing = ", ".join(map(repr, model.new_tokens))
        raise UserError(
            f"{folder}: the vocabulary lacks {missing}, which the model needs and whose vector is not there"
        )
    return model.eval()


def _kind(like: partial[Model] | None) -> type[Model] | None:
    """The class of the configured model."""
    return like.func if like is not None and isinstance(like.func, type) else None


def _without_adapters(folder: Path, wanted: Wanted, like: partial[Model] | None) -> Model:
    """The model that adapters belong to: as irexp.json beside them says, else the base they name.

    Raises:
        UserError: if they name none, or one that is a bare transformer, of which nothing says what model it becomes.
    """
    if (folder / SETTINGS).is_file():
        return make_recipe(folder, wanted, _kind(like))
    name = base_of(folder)
    base = _folder(name, None, wanted)
    found = recognise(base)
    if like is not None and not found.is_made:
        return make_like(like, folder, base, wanted)
    if found.is_guess:
        raise UserError(
            f"{folder}: its adapters are for {name}, a bare transformer, and nothing says of what model; say it as "
            f"load(…, like=partial(DenseBiEncoder, pooling='last', …)), or with model=… where a stage opens it"
        )
    model: Model = found.layout.load(found.family, base, replace(wanted, name=wanted.name or folder.name))
    return model


class Found(NamedTuple):
    """What a folder is.

    Attributes:
        family: the class it is opened as.
        layout: what reads it.
        is_made: whether its files say that it is a retrieval model; else it is a transformer with a head or without.
        is_guess: whether nothing says what its vectors are.
    """

    family: type[Model]
    layout: Reader
    is_made: bool = True
    is_guess: bool = False


def recognise(folder: Path, kind: type[Model] | None = None) -> Found:
    """What a folder is, by its files and the names of its weights.

    Args:
        folder: the checkpoint.
        kind: the class of the configured model, for what the content leaves open.

    Raises:
        UserError: saying what was looked for.
    """
    content = Content(folder)
    if name := content.settings.get("family"):
        family = find_family(name, folder / SETTINGS, kind)
        return Found(family, family.layout)
    if not any(content.has(name) for name in ("artifact.metadata", "modules.json", "config.json")):
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} is no checkpoint: it has none of {', '.join(_LOOKED_FOR)}, but {there}")
    own = (kind,) if kind is not None and kind not in _FOREIGN else ()
    for family in (*own, *_FOREIGN):
        for layout in family.reads:
            if layout.recognises(content):
                return Found(family, layout, is_made=family is not Mono or content.is_listed)
    return _bare(content, kind)


def _bare(content: Content, kind: type[Model] | None) -> Found:
    """A transformer with nothing beside it: what is configured, else a monoT5 or a dense model."""
    refuse_unknown(content)
    if kind is not None:
        if kind.begins_bare:
            return Found(kind, kind.layout, is_made=False)
        raise UserError(
            f"{content.folder} is a {content.architecture or 'transformer'} with nothing of a {kind.__name__} beside "
            f"it (looked for {', '.join(_LOOKED_FOR[:3])}, model.pt, 2_Dense and the weights linear and tok_proj); to "
            f"begin with it, name it as backbone.name_or_path and fine-tune"
        )
    if content.architecture.endswith("ForConditionalGeneration") and content.config.get("is_encoder_decoder"):
        return Found(TokenLogit, TokenLogit.layout, is_made=False)
    if content.architecture.endswith("ForMaskedLM"):
        log.warning(
            "%s is a masked language model with nothing beside it: opened as a dense model; for a SPLADE say "
            "model=splade, in Python load(…, like=partial(SPLADE))",
            content.folder,
        )
    return Found(DenseBiEncoder, DenseBiEncoder.layout, is_made=False, is_guess=True)


def save(model: Model, folder: str | Path) -> None:
    """Write a checkpoint that `load` opens; README.md says which home library opens it, too.

    Args:
        model: of any family.
        folder: made if it is not there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    model.layout.save(model, Path(folder))


def _folder(checkpoint: str, revision: str | None, wanted: Wanted) -> Path:
    """The folder of a checkpoint, fetched from the hub if it is a name there; with code only if that may be run."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{folder} is a file; a checkpoint is a folder")
    if checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1:
        raise UserError(f"{folder} is not there")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    fetch = partial(snapshot_download, checkpoint, revision=revision or hub_revision(checkpoint))
    patterns = [*_PATTERNS, "*.py"] if wanted.trust_remote_code else _PATTERNS
    try:
        fetched = Path(fetch(allow_patterns=patterns))
        if not any(fetched.rglob("*.safetensors")):
            fetched = Path(fetch(allow_patterns=[*patterns, "*.bin"]))
        return fetched
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"{checkpoint} is no folder here, is not in the hub's cache, and cannot be fetched from the hub "
            f"({str(error).splitlines()[0]})"
        ) from error
