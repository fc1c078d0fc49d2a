"""The options of conf/ as Python objects: `component("index", "plaid", bits=2)`.

Values that a call leaves out come from the option's file.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from irexp.artifact.experiment import compose_experiment
from irexp.config.built import built
from irexp.config.check import ConfigError, config_faults, near
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import RECORDS, register_schema
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
    config = composed_option(group, option)
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


def record(kind: type[Record], node: DictConfig) -> Record:
    """Convert a node of the configuration to its record."""
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), node))
    assert isinstance(found, kind)
    return found


def composed_option(group: str, option: str | None) -> DictConfig:
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
