"""The options of conf/ as Python objects: `component("index", "plaid", bits=2)`, `new_model("colbert", backbone=…)`.

Values that a call leaves out come from the option's file.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.experiment import compose_experiment
from irexp.backbone.backbone import Backbone
from irexp.config.built import built
from irexp.config.check import ConfigError, config_faults, near
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import RECORDS, register_schema
from irexp.model.model import Model
from irexp.model.start import start_new
from irexp.types import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)

#: Groups whose options are not objects.
_NOT_OBJECTS = ("stage", "experiment", "hydra", "paths")

#: The types of settings; a value of any other type replaces a component.
_SETTING_TYPES = (bool, int, float, str, list, tuple, Mapping, type(None))


def component(group: str, option: str | None = None, /, **settings: Any) -> Any:
    """Build the object that an option of a configuration group describes.

    Args:
        group: a folder of conf/: loss, index, optimizer, schedule, regularizer, adapter, machine, training, …
        option: a file in it, without the suffix; None for the default.
        settings: values that replace the file's; an object replaces a component.

    Raises:
        UserError: if the option lacks a setting; names each, with the nearest spelling.
    """
    config = _composed(group, option)
    objects = {key: value for key, value in settings.items() if not isinstance(value, _SETTING_TYPES)}
    for key, value in settings.items():
        if key not in objects:
            OmegaConf.update(config, f"{group}.{key}", value, merge=isinstance(value, Mapping), force_add=True)
    faults = config_faults(config, [group])
    missing = sorted(key for key in OmegaConf.missing_keys(config[group]) if key not in objects)
    faults += [f"{group}.{key}: needs a value: {key}=…" for key in missing]
    if faults:
        raise ConfigError(faults)
    if group in RECORDS:
        return record(RECORDS[group], config[group])
    return built(config[group], **objects)


def new_model(
    option: str = "sbert", *, backbone: str | Backbone | None = None, seed: int = 42, **settings: Any
) -> Model:
    """Build a model before fine-tuning: `new_model("colbert", backbone="answerdotai/ModernBERT-base", dim=96)`.

    Args:
        option: a file of conf/model: sbert, splade, colbert, mono, …
        backbone: an option of conf/backbone, a folder, a name on the Hugging Face hub, or an object; None for the
            default.
        seed: decides the weights that the backbone lacks, such as a projection.
        settings: values that replace the file's.

    Raises:
        UserError: if there is no such option, setting or backbone, or the option has no weights (bm25).
    """
    config = _composed("model", option)
    if "_target_" not in config.model:
        raise UserError(f"model={option} has no weights to load or train; for BM25 call build_index(documents)")
    if isinstance(backbone, str):
        is_option = (CONF / "backbone" / f"{backbone}.yaml").is_file()
        chosen = backbone if is_option else "hugging_face"
        backbone = component("backbone", chosen, **({} if is_option else {"name_or_path": backbone}))
    given = {} if backbone is None else {"backbone": backbone}
    if backbone is not None and config.model.get("query_backbone") is not None:
        given["query_backbone"] = backbone
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = start_new(component("model", option, **(given | settings)))
    return model.eval()


def record(kind: type[Record], node: DictConfig) -> Record:
    """Convert a node of the configuration to its record."""
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), node))
    assert isinstance(found, kind)
    return found


def _composed(group: str, option: str | None) -> DictConfig:
    """Compose the configuration with an option; text lengths are the checkpoint's own."""
    register_resolvers()
    register_schema()
    folder = CONF / group
    if group in _NOT_OBJECTS or not folder.is_dir():
        groups = [path.name for path in CONF.iterdir() if path.is_dir() and path.name not in _NOT_OBJECTS]
        raise UserError(f"conf/ has no group {group!r} of objects{near(group, groups)}")
    if option is not None and not (folder / f"{option}.yaml").is_file():
        options = [path.stem for path in folder.glob("*.yaml")]
        raise UserError(f"conf/{group} has no option {option!r}{near(option, options)}")
    chosen = [f"{group}={option}"] if option is not None else []
    composed, _ = compose_experiment(("dataset=local", "dataset.path=.", *chosen))
    config = copy.deepcopy(composed)
    OmegaConf.set_struct(config, False)
    return config
