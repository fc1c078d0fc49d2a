"""Open a checkpoint, recognised by its content, and save one: `model = load("folder or hub name")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from irexp.artifact.content import hub_revision
from irexp.model.adapter import make_like, make_recipe
from irexp.model.checkpoint.cross_encoder import load_mono, load_token_logit, save_mono, save_token_logit
from irexp.model.checkpoint.files import SETTINGS, Wanted, read_json, read_optional, tensor_names
from irexp.model.checkpoint.late_interaction import (
    is_late_interaction,
    load_colbert,
    load_stanford,
    load_xtr,
    save_colbert,
)
from irexp.model.checkpoint.modules import ModuleBackbone, read_config, read_routes
from irexp.model.checkpoint.plain import (
    load_coil,
    load_mvr,
    load_set_encoder,
    load_unicoil,
    save_coil,
    save_mvr,
    save_set_encoder,
    save_unicoil,
)
from irexp.model.checkpoint.sentence_transformers import load_dense, save_dense
from irexp.model.checkpoint.sparse_encoder import is_sparse, load_splade, save_splade
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.lora import base_of, is_adapter, load_adapter, merge
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.types import UserError

Loader = Callable[[Path, Wanted], Model]

#: How each family is written; a subclass stands before its base.
_SAVE: list[tuple[type[Model], Callable[[Any, Path], None]]] = [
    (DenseBiEncoder, save_dense),
    (SPLADE, save_splade),
    (UniCOIL, save_unicoil),
    (COIL, save_coil),
    (ColBERT, save_colbert),
    (MVR, save_mvr),
    (Mono, save_mono),
    (TokenLogit, save_token_logit),
    (SetEncoder, save_set_encoder),
]

#: How the families that irexp.json names are read.
_OWN: dict[str, Loader] = {
    "dense": load_dense,
    "splade": load_splade,
    "unicoil": load_unicoil,
    "coil": load_coil,
    "colbert": load_colbert,
    "xtr": load_colbert,
    "mvr": load_mvr,
    "mono": load_mono,
    "token_logit": load_token_logit,
    "set_encoder": load_set_encoder,
}

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
) -> Model:
    """Open a model.

    Args:
        checkpoint: a folder, an adapter's too, or a name on the hub.
        name: what tables call it; None for what the checkpoint says.
        query_length: tokens of a query that are read; None for what the checkpoint says.
        document_length: tokens of a document that are read, likewise.
        revision: the hub's commit; None for the one in the cache, else the newest.
        like: a configured model, which says what the content leaves open: a masked language model may be a SPLADE or
            the encoder of a dense model, and a T5 a monoT5 or a RankT5. Without it the first of
            `irexp.model.load.loader_of` that fits is taken.

    Raises:
        UserError: if there is no such checkpoint, or it is of no kind that is understood.
    """
    folder = _folder(str(checkpoint), revision)
    kind = like.func if like is not None else None
    wanted = Wanted(name, query_length, document_length, like.keywords if like is not None else {})
    if is_adapter(folder) and not (folder / "modules.json").is_file():
        return merge(load_adapter(_without_adapters(folder, wanted, like), folder)).eval()
    model = loader_of(folder, kind)(folder, wanted)
    if model.new_tokens:
        missing = ", ".join(map(repr, model.new_tokens))
        raise UserError(
            f"{folder}: the vocabulary lacks {missing}, which the model needs and whose vector is not there"
        )
    return model.eval()


def _without_adapters(folder: Path, wanted: Wanted, like: partial[Model] | None) -> Model:
    """The model that adapters belong to: as irexp.json beside them says, else the base they name.

    Raises:
        UserError: if they name none, or one that is a bare transformer, of which nothing says what model it becomes.
    """
    if (folder / SETTINGS).is_file():
        return make_recipe(folder, wanted)
    name = base_of(folder)
    base = _folder(name, None)
    loader = loader_of(base)
    is_bare = loader in (_load_plain, load_mono, load_token_logit) and not (
        (base / SETTINGS).is_file() or (base / "modules.json").is_file()
    )
    if like is not None and is_bare:
        return make_like(like, folder, base, wanted)
    if loader is _load_plain:
        raise UserError(
            f"{folder}: its adapters are for {name}, a bare transformer, and nothing says of what model; say it as "
            f"load(…, like=partial(DenseBiEncoder, pooling='last', …)), or with model=… where a stage opens it"
        )
    return loader(base, replace(wanted, name=wanted.name or folder.name))


def loader_of(folder: Path, kind: object = None) -> Loader:
    """How a folder is read, by its files and the names of its weights.

    Args:
        folder: the checkpoint.
        kind: the class of the configured model, for what the content leaves open.

    Raises:
        UserError: saying what was looked for.
    """
    if family := read_optional(folder / SETTINGS).get("family"):
        if family not in _OWN:
            raise UserError(f"{folder / SETTINGS}: the family {family!r} is not known; {', '.join(_OWN)} are")
        return _OWN[family]
    if (folder / "artifact.metadata").is_file():
        return load_stanford
    if (folder / "modules.json").is_file():
        return _of_modules(folder)
    if not (folder / "config.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} is no checkpoint: it has none of {', '.join(_LOOKED_FOR)}, but {there}")
    return _of_transformer(folder, kind)


def _of_modules(folder: Path) -> Loader:
    """A list of modules of sentence-transformers or PyLate."""
    query, document = read_routes(folder)
    if is_late_interaction(folder):
        return load_colbert
    if is_sparse(folder):
        return load_splade
    if any(module.kind == "LogitScore" for module in (*query, *document)):
        return load_token_logit
    return load_mono if read_config(folder).get("model_type") == "CrossEncoder" else load_dense


def _of_transformer(folder: Path, kind: object) -> Loader:
    """A folder of transformers, with what may stand beside its encoder."""
    config = read_json(folder / "config.json")
    architecture = (config.get("architectures") or [""])[0]
    if config.get("model_type") == "set-encoder":
        return load_set_encoder
    if (folder / "model.pt").is_file():
        return load_coil
    if (folder / "2_Dense").is_dir():
        return load_xtr
    names = tensor_names(folder)
    if any(".tok_proj." in f".{name}" for name in names):
        return load_unicoil
    if architecture == "HF_ColBERT":
        return load_stanford
    is_classifier = any(name.startswith("classifier.") for name in names)
    if architecture.endswith("ForSequenceClassification") or (is_classifier and not architecture):
        return load_mono
    is_generative = architecture.endswith(("ForConditionalGeneration", "ForCausalLM"))
    if is_generative and (kind is TokenLogit or (kind is None and config.get("is_encoder_decoder"))):
        return load_token_logit
    if kind is SPLADE:
        return load_splade
    if kind in (None, DenseBiEncoder):
        return _load_plain
    raise UserError(
        f"{folder} is a {architecture or 'transformer'} with nothing of a {getattr(kind, '__name__', kind)} beside it "
        f"(looked for {', '.join(_LOOKED_FOR[:3])}, model.pt, 2_Dense and the weights linear and tok_proj); to begin "
        f"with it, name it as backbone.name_or_path and fine-tune"
    )


def _load_plain(folder: Path, wanted: Wanted) -> DenseBiEncoder:
    """A bare encoder as the configured dense model, else pooled as sentence-transformers does."""
    if not wanted.like:
        return load_dense(folder, wanted)
    like = dict(wanted.like)
    if like.get("projection_dim"):
        raise UserError(f"{folder} is a bare encoder without the layer that model.projection_dim asks for")
    backbone = ModuleBackbone(folder)
    like |= {"backbone": backbone, "query_backbone": backbone if like.get("query_backbone") else None}
    return DenseBiEncoder(**(like | wanted.over(folder, backbone.lengths())))


def save(model: Model, folder: str | Path) -> None:
    """Write a checkpoint that `load` opens; README.md says which home library opens it, too.

    Args:
        model: of any family.
        folder: made if it is not there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for family, write in _SAVE:
        if isinstance(model, family):
            write(model, Path(folder))
            return
    raise TypeError(f"a {type(model).__name__} has no checkpoint format")


def _folder(checkpoint: str, revision: str | None) -> Path:
    """The folder of a checkpoint, fetched from the hub if it is a name there."""
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
    try:
        fetched = Path(fetch(allow_patterns=_PATTERNS))
        if not any(fetched.rglob("*.safetensors")):
            fetched = Path(fetch(allow_patterns=[*_PATTERNS, "*.bin"]))
        return fetched
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"{checkpoint} is no folder here, is not in the hub's cache, and cannot be fetched from the hub "
            f"({str(error).splitlines()[0]})"
        ) from error
