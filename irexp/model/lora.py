"""LoRA (Hu et al. 2021, arXiv:2106.09685) on any model, through peft: W + (alpha / r) B A, with A and B trained.

The weights of the transformers are frozen; the layers on top of them (projections, heads, newly drawn poolers) and the
vectors of added tokens stay trainable. An adapter is saved in peft's format. Next to it are the other trained weights
(`trained.safetensors`) and the recipe of its model (`irexp.model.adapter`). The checkpoint itself holds the merged
weights and opens in every library that reads its layout.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from irexp.model.checkpoint.files import SETTINGS, read_json, read_safetensors, read_torch
from irexp.types import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

    from irexp.model.model import Model

log = logging.getLogger(__name__)

_CONFIG = "adapter_config.json"
_TRAINED = "trained.safetensors"


def transformers_of(model: Model) -> dict[str, PreTrainedModel]:
    """The transformers of a model by side, which is the name of the adapter's folder if there are two."""
    return {key.removesuffix("backbone").rstrip("_") or "document": e for key, (e, _) in model.encoders().items()}


def add_lora(model: Model, config: LoraConfig) -> None:
    """Add adapters to a model and freeze the weights that they adapt.

    Raises:
        UserError: if they are not LoRA, name modules, biases or tokens to train, or no layer has a target's name.
    """
    _require_lora(config, "adapter")
    if config.modules_to_save:
        raise UserError(
            f"adapter.modules_to_save={list(config.modules_to_save)} is not supported: the layers on top of the "
            f"transformer are always trained and saved; set it to null"
        )
    if config.bias != "none" or config.trainable_token_indices:
        key, value = ("bias", config.bias) if config.bias != "none" else ("trainable_token_indices", "…")
        raise UserError(
            f"adapter.{key}={value} is not supported: of the transformer, only adapters are trained; leave it out"
        )
    for encoder in transformers_of(model).values():
        words = encoder.get_input_embeddings()
        _check_targets(config.target_modules, encoder)
        _inject(_with_layers(config, encoder), encoder, "adapter", "name layers in adapter.target_modules")
        _check_output(encoder)
        for parameter in encoder.parameters():  # peft has frozen all of them
            parameter.requires_grad = True
        for name, parameter in encoder.base_model.named_parameters():
            parameter.requires_grad = "lora_" in name or "pooler." in name
            if "lora_" in name:  # in bf16 a step of 2e-5 does not change a weight of 0.1; peft casts the inputs
                parameter.data = parameter.data.float()
        for parameter in words.parameters():
            parameter.requires_grad = bool(model.new_tokens)


def _require_lora(config: object, place: object) -> None:
    """Refuse adapters of another type: peft has no common way to merge them.

    Raises:
        UserError: naming the type.
    """
    from peft import LoraConfig

    if not isinstance(config, LoraConfig):
        kind = getattr(config, "peft_type", None)
        raise UserError(
            f"{place}: adapters of type {getattr(kind, 'value', type(config).__name__)} are not supported; supported: "
            f"LORA (peft.LoraConfig)"
        )


def _with_layers(config: LoraConfig, encoder: PreTrainedModel) -> LoraConfig:
    """The configuration, targeting all linear layers if it names none and peft has no default for the transformer."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    kind = encoder.config.model_type
    if config.target_modules is not None or kind in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        return replace(config)  # peft writes into it
    log.info("adapter: peft has no default layers for the model type %s: all linear layers are adapted", kind)
    return replace(config, target_modules="all-linear")


def _check_targets(names: Any, encoder: PreTrainedModel) -> None:
    """Refuse the name of no module; peft adapts the others, and says nothing. A text is a pattern, which it checks."""
    modules = [name for name, _ in encoder.named_modules()]
    for name in [] if names is None or isinstance(names, str) else sorted(names):
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            raise UserError(
                f"adapter: a {type(encoder).__name__} has no module {name!r}; name layers in adapter.target_modules"
            )


def _check_output(encoder: PreTrainedModel) -> None:
    """Refuse an adapted output layer whose weights are the word vectors, too, which merging would change."""
    head: Any = encoder.get_output_embeddings()  # type: ignore[no-untyped-call]
    base = getattr(head, "base_layer", None)
    if base is not None and base.weight is encoder.get_input_embeddings().weight:
        raise UserError(
            f"adapter.target_modules: the output layer of a {type(encoder).__name__} has the weights of the word "
            f"vectors, which merging its adapter would change, too; leave it out"
        )


def _inject(config: Any, encoder: PreTrainedModel, place: object, advice: str) -> None:
    """Add untrained adapters to a transformer; an error of peft is reported with its place and advice."""
    from peft import inject_adapter_in_model

    try:
        inject_adapter_in_model(config, encoder)
    except ValueError as error:
        raise UserError(f"{place}: {str(error).splitlines()[0]}; {advice}") from error


def save_adapter(model: Model, folder: Path, base: str, *, query_base: str | None = None) -> None:
    """Write the adapters and the other trained weights.

    Args:
        model: a model with adapters.
        folder: created if it does not exist; a model of two encoders has one subfolder per encoder.
        base: the base model of the adapters, a path or a name on the hub.
        query_base: the base model of a separate query encoder; None if it is `base`.
    """
    from peft import get_peft_model_state_dict

    encoders = transformers_of(model)
    for side, encoder in encoders.items():
        place = folder / side if len(encoders) > 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        config = encoder.peft_config["default"]
        config.base_model_name_or_path, config.inference_mode = base, True
        if side == "query":
            config.base_model_name_or_path = query_base or base
        config.save_pretrained(place)
        state = get_peft_model_state_dict(encoder, save_embedding_layers=False)
        save_file({f"base_model.model.{k}": v.detach().cpu().contiguous() for k, v in state.items()}, place / _FILE)
    trained = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    save_file(trained, folder / _TRAINED)


_FILE = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters, directly or in one subfolder per encoder, and no whole model."""
    is_one = (folder / _CONFIG).is_file() or (folder / "document" / _CONFIG).is_file()
    return is_one and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """The base model of adapters: a path or a name on the hub.

    Raises:
        UserError: if they name none.
    """
    place = folder / _CONFIG if (folder / _CONFIG).is_file() else folder / "document" / _CONFIG
    base = read_json(place).get("base_model_name_or_path")
    if not base:
        raise UserError(f"{place} names no base model; set its base_model_name_or_path")
    return str(base)


def load_adapter(model: Model, folder: Path) -> Model:
    """Add saved adapters to a model.

    Raises:
        UserError: if their weights do not fit, or the weights trained together with them are missing.
    """
    encoders = transformers_of(model)
    for side, encoder in encoders.items():
        put_adapter(encoder, folder / side if len(encoders) > 1 else folder)
    if (folder / _TRAINED).is_file():
        trained = load_file(folder / _TRAINED)
        unexpected = model.load_state_dict(trained, strict=False).unexpected_keys
        if unexpected:
            raise UserError(f"{folder / _TRAINED}: unexpected weights {unexpected[:4]}")
    elif (folder / SETTINGS).is_file():
        raise UserError(f"{folder / _TRAINED}, which holds the weights trained with the adapters, is missing")
    return model


def put_adapter(encoder: PreTrainedModel, place: Path) -> set[str]:
    """Add saved adapters to a transformer, and return the names of the weights in their file.

    Raises:
        UserError: if their weights do not fit.
    """
    from peft import PeftConfig, set_peft_model_state_dict

    config: Any = PeftConfig.from_pretrained(str(place))
    _require_lora(config, place)
    _inject(config, encoder, place, f"these are not adapters of a {type(encoder).__name__}")
    path = place / _FILE
    state = read_safetensors(path) if path.is_file() else read_torch(path.with_suffix(".bin"))
    state = {name.removeprefix("base_model.model."): value for name, value in state.items()}
    try:
        result: Any = set_peft_model_state_dict(encoder, state)
    except RuntimeError as error:  # weights of other shapes
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} does not fit a {type(encoder).__name__} ({reason[:300]}); if its vocabulary was enlarged, merge "
            f"the adapters into the enlarged model and name that one"
        ) from error
    missing = [name for name in result.missing_keys if "lora_" in name or "modules_to_save" in name]
    if missing or result.unexpected_keys:
        raise UserError(f"{path}: missing weights {missing[:4]}, unexpected weights {result.unexpected_keys[:4]}")
    return set(state)


def merge(model: Model) -> Model:
    """Merge the adapters into the weights; the model then has no adapters."""
    for encoder in transformers_of(model).values():
        merge_adapter(encoder)
    for parameter in nn.Module.parameters(model):
        parameter.requires_grad = True
    return model


@contextmanager
def adapted(model: Model, config: LoraConfig | None) -> Iterator[None]:
    """Add adapters for the time of the block, and merge them after it; an error leaves the weights that they adapt."""
    if config is None:
        yield
        return
    add_lora(model, config)
    untrained = {name: each.detach().clone() for name, each in model.named_parameters() if "lora_" in name}
    try:
        yield
    except BaseException:
        with torch.no_grad():  # zeros would not do: PiSSA and OLoRA took their first product off the weights
            for name, parameter in model.named_parameters():
                if name in untrained:
                    parameter.copy_(untrained[name])
        merge(model)
        raise
    merge(model)


def merge_adapter(encoder: PreTrainedModel) -> None:
    """Merge a transformer's adapters into its weights; modules trained as a whole replace the original ones."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper

    for name, layer in list(encoder.named_modules()):
        parent, _, attribute = name.rpartition(".")
        if isinstance(layer, LoraLayer):
            layer.merge()
            setattr(encoder.get_submodule(parent), attribute, layer.get_base_layer())
        elif isinstance(layer, ModulesToSaveWrapper):
            setattr(encoder.get_submodule(parent), attribute, layer.modules_to_save["default"])
        elif isinstance(layer, TrainableTokensWrapper):
            layer.token_adapter.merge()
            setattr(encoder.get_submodule(parent), attribute, layer.original_module)
    encoder._hf_peft_config_loaded = False
    if hasattr(encoder, "peft_config"):
        del encoder.peft_config
