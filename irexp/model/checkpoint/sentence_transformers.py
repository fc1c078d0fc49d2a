"""Dense checkpoints in the layout of sentence-transformers, in all its versions.

The folder has a list of modules: Transformer, Pooling, and optionally Dense and Normalize. Module types of old and new
versions have different paths, but the same last part. A model with one encoder per side has a Router over two such
lists. Settings that this layout has no place for are in `irexp.json`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from safetensors.torch import save_file

from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    fill,
    read_json,
    read_optional,
    read_required,
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
    warn_of_chat_template,
    write_router,
)
from irexp.model.pooling import Pooling
from irexp.model.projection import Activation, Projection
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.dense import DenseBiEncoder, Tower

log = logging.getLogger(__name__)

#: The name of each pooling's flag before version 6, in the order in which several are concatenated.
_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
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

#: The supported modules, in their order.
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")


def recognises(content: Content) -> bool:
    """Whether there is a list of modules; sparse encoders, cross-encoders and multi-vector models are tried before."""
    return content.is_listed


def save(model: DenseBiEncoder, folder: Path) -> None:
    """Write a model; two towers become a Router."""
    write_settings(folder, model)
    if model.has_two_towers:
        routes = {
            side: _save_tower(model, tower, folder, length, length, prefix=f"{side}_")
            for side, tower, length in (
                ("query", model.query_tower, model.query_length),
                ("document", model.document_tower, model.document_length),
            )
        }
        write_router(folder, routes["query"], routes["document"])
        modules = ROUTER
    else:
        modules = _save_tower(model, model.document_tower, folder, model.query_length, model.document_length)
    write_modules(
        folder,
        modules,
        model_type="SentenceTransformer",
        prompts={"query": model.query_prompt, "document": model.document_prompt},
        similarity_fn_name="cosine" if model.is_cosine else "dot",
        truncate_dim=model.truncate_dim,
    )


def _save_tower(
    model: DenseBiEncoder, tower: Tower, folder: Path, query_length: int, document_length: int, *, prefix: str = ""
) -> list[tuple[str, str]]:
    """Write the modules of a tower, and return their types and folders; without a prefix the first is in `folder`."""
    modules: list[tuple[str, str]] = []

    def place_of(kind: str) -> Path:
        name = f"{prefix}{len(modules)}_{kind}" if prefix or modules else ""
        modules.append((f"sentence_transformers.models.{kind}", name))
        (folder / name).mkdir(exist_ok=True)
        return folder / name

    place = place_of("Transformer")
    tower.encoder.save_pretrained(place)
    save_tokenizer(tower.tokenizer, place)
    lengths = {"query_length": query_length, "document_length": document_length}
    old = {"max_seq_length": document_length, "do_lower_case": False}  # versions before 6 read these
    write_json(place / "sentence_bert_config.json", old if query_length == document_length else old | lengths)
    write_json(place_of("Pooling") / "config.json", _pooling_config(model, tower))
    for projection in tower.projections:
        assert isinstance(projection, Projection)
        save_projection(projection, place_of("Dense"))
    if model.is_cosine:
        place_of("Normalize")
    return modules


def _pooling_config(model: DenseBiEncoder, tower: Tower) -> dict[str, Any]:
    dim = int(tower.encoder.config.hidden_size)
    if len(tower.poolings) > 1:  # flags cannot express their order
        modes = [mode for pooling in tower.poolings for mode, ours in _MODES.items() if ours == pooling]
        return {"embedding_dimension": dim, "pooling_mode": modes, "include_prompt": model.pool_prompt}
    flags = {flag: (pooling,) == tower.poolings for flag, pooling in _FLAGS.items()}
    return {"word_embedding_dimension": dim, **flags, "include_prompt": model.pool_prompt}


def save_projection(projection: Projection, folder: Path, *, dims: int | None = None) -> None:
    """Write a Dense module; of its output the leading dimensions, None for all, since activations keep them apart."""
    linear = projection.linear
    module = type(projection.activate)
    config = {
        "in_features": linear.in_features,
        "out_features": linear.out_features if dims is None else dims,
        "bias": linear.bias is not None,
        "activation_function": f"{module.__module__}.{module.__name__}",
    }
    write_json(folder / "config.json", config)
    state = {f"linear.{key}": value[:dims].detach().cpu().clone() for key, value in linear.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def load(family: type[DenseBiEncoder], folder: Path, wanted: Wanted) -> DenseBiEncoder:
    """Load a folder saved by irexp or sentence-transformers, or a bare transformer.

    A bare transformer gets the settings of the configured model; without one, mean pooling as in sentence-transformers.

    Raises:
        UserError: if a module is not supported, or a weight is missing or unexpected.
    """
    settings = read_optional(folder / SETTINGS)
    if wanted.like and not settings and not (folder / "modules.json").is_file():
        return _as_configured(family, folder, wanted)
    place, routes = folder, read_routes(folder)
    if settings.get("two_towers") and not (folder / "modules.json").is_file():  # the layout before irexp wrote a Router
        place, routes = folder / "document", (read_routes(folder / "query")[0], read_routes(folder / "document")[1])
    document, query = _tower(routes[1], folder), _tower(routes[0], folder)
    for key in ("pooling", "pool_prompt", "is_normalised"):
        if query[key] != document[key]:
            raise UserError(f"{folder}: {key} differs between queries and documents, which is not supported")
    trust = wanted.trust_remote_code
    backbones = [ModuleBackbone(side["transformer"], trust_remote_code=trust) for side in (document, query)]
    lengths = {"query_length": backbones[1].lengths()["query_length"]}
    lengths["document_length"] = backbones[0].lengths()["document_length"]
    similarity, truncate_dim = _similarity(place, document["is_normalised"])
    model = family(
        backbones[0],
        pooling=document["pooling"],
        pool_prompt=document["pool_prompt"],
        query_backbone=backbones[1] if routes[0] != routes[1] else None,
        append_eos=settings.get("append_eos", False),
        similarity=similarity,
        **read_prompts(read_config(place)),
        **wanted.name_and_lengths(folder, lengths | settings),
    )
    for tower, modules in zip(model.towers(), (document, query), strict=False):
        tower.projections.extend(load_projection(path, output="sentence_embedding") for path in modules["dense"])
    model.choose_dims(truncate_dim, ())
    return model


def _as_configured(family: type[DenseBiEncoder], folder: Path, wanted: Wanted) -> DenseBiEncoder:
    """A bare transformer, loaded as the configured model."""
    like = dict(wanted.like)
    if like.get("projection_dim"):
        raise UserError(
            f"{folder} is a bare encoder without the layer that model.projection_dim asks for; set it to null, or "
            f"fine-tune"
        )
    backbone = ModuleBackbone(folder, trust_remote_code=wanted.trust_remote_code)
    like |= {"backbone": backbone, "query_backbone": backbone if like.get("query_backbone") else None}
    return family(**(like | wanted.name_and_lengths(folder, backbone.lengths())))


def _tower(route: list[Module], folder: Path) -> dict[str, Any]:
    """The settings of a tower, from its list of modules."""
    found: dict[str, Any] = {"pooling": None, "pool_prompt": True, "dense": [], "is_normalised": False}
    rank = -1
    for module in route:
        if module.kind == "Dropout":
            continue
        if module.kind not in _ORDER or _ORDER.index(module.kind) < rank + (module.kind != "Dense"):
            raise UserError(
                f"{folder}: the module {module.kind} in {module.folder} is not supported there in a dense model; "
                f"supported, in this order: {', '.join(_ORDER)}"
            )
        rank = _ORDER.index(module.kind)
        if module.kind == "Transformer":
            found["transformer"] = module.folder
        elif module.kind == "Pooling":
            found |= _pooling(module.folder / "config.json")
        elif module.kind == "Dense":
            found["dense"].append(module.folder)
        else:
            found["is_normalised"] = True
    if "transformer" not in found:
        raise UserError(f"{folder}: its list of modules has no Transformer, which a dense model needs")
    if found["pooling"] is None and len(route) > 1:
        raise UserError(f"{folder}: its list of modules has no Pooling, which a dense model needs")
    if found["pooling"] is None:
        log.info("%s has no modules.json: mean pooling is used, as in sentence-transformers", folder)
        warn_of_chat_template(folder)
    return found | {"pooling": found["pooling"] or ("mean",)}


def _pooling(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        chosen = [_MODES.get(mode, mode) for mode in ([modes] if isinstance(modes, str) else modes)]
    else:
        chosen = [pooling for flag, pooling in _FLAGS.items() if config.get(flag)] or ["mean"]
    if unknown := [pooling for pooling in chosen if pooling not in get_args(Pooling)]:
        raise UserError(f"{path}: the pooling {unknown[0]} is not supported; supported: {', '.join(get_args(Pooling))}")
    return {"pooling": tuple(chosen), "pool_prompt": config.get("include_prompt", True)}


def _similarity(folder: Path, is_normalised: bool) -> tuple[Literal["cosine", "dot"], int | None]:
    """The similarity, and the number of leading dimensions that are kept."""
    path = folder / "config_sentence_transformers.json"
    config = read_optional(path)
    similarity = config.get("similarity_fn_name") or "cosine"
    truncate_dim = config.get("truncate_dim")
    if similarity not in ("cosine", "dot"):
        raise UserError(f"{path}: the similarity {similarity!r} is not supported; supported: cosine, dot")
    if is_normalised and similarity == "dot" and truncate_dim:
        raise UserError(
            f"{path}: truncate_dim={truncate_dim} is not supported for vectors that are normalised before it"
        )
    return "cosine" if is_normalised or similarity == "cosine" else "dot", truncate_dim


def load_projection(folder: Path, *, output: str = "token_embeddings") -> Projection:
    """Load a Dense module.

    Args:
        folder: the module's folder.
        output: the name of its input and output: token_embeddings, or sentence_embedding after a Pooling.

    Raises:
        UserError: if it has another input or output, an unsupported activation, or a residual connection.
    """
    config = read_required(folder / "config.json", in_features=int, out_features=int)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in get_args(Activation):
        raise UserError(
            f"{folder}: the activation {activation} is not supported; supported: {', '.join(get_args(Activation))}"
        )
    if config.get("use_residual"):
        raise UserError(f"{folder}: a Dense with use_residual is not supported")
    if strange := {config.get(f"module_{side}_name") for side in ("input", "output")} - {None, output}:
        raise UserError(f"{folder}: a Dense of {strange.pop()} is not supported here; supported: {output}")
    projection = Projection(
        config["in_features"],
        config["out_features"],
        bias=config.get("bias", True),
        activation=cast(Activation, activation),
    )
    state = {key.removeprefix("linear."): value for key, value in read_tensors(folder).items()}
    fill(projection.linear, state, folder)
    return projection
