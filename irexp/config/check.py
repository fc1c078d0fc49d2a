"""A composed configuration against what it must be: every fault in one message, before anything is loaded.

Records are held to their fields, components to their signatures.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irexp.config.component import component_faults
from irexp.config.schema import CHOICES, RECORDS, Config
from irexp.types import UserError


class ConfigError(UserError):
    """A configuration that cannot be run; the message lists every fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        """An error over faults, each once, in order."""
        self.faults = list(dict.fromkeys(faults))
        super().__init__("this configuration cannot be run:\n" + "\n".join(f"  {fault}" for fault in self.faults))


def check(config: DictConfig) -> None:
    """Check a composed configuration.

    Raises:
        ConfigError: naming every fault.
    """
    if faults := config_faults(config):
        raise ConfigError(faults)


def config_faults(config: DictConfig) -> list[str]:
    """Every fault of a composed configuration: records against their fields, components against their signatures."""
    faults = [
        f"{key}: there is no such key{near(key, Config.__dataclass_fields__)}"
        for key in map(str, config)
        if key not in Config.__dataclass_fields__
    ]
    for name, record in RECORDS.items():
        faults += _record_faults(config.get(name), name, record)
    faults += [f"{key}: needs a value, as {key}=…" for key in _missing_keys(config)]
    return faults + component_faults(config)


def near(word: str, choices: Iterable[str], *, cutoff: float = 0.5) -> str:
    """The end of an error message: the nearest spelling, or what there is to choose from."""
    names = [str(choice) for choice in choices]
    matches = difflib.get_close_matches(word, names, n=1, cutoff=cutoff)
    if matches:
        return f"; did you mean {matches[0]}?"
    return f"; there are {', '.join(sorted(names))}" if names else ""


def _record_faults(node: Any, name: str, record: type) -> list[str]:
    if not isinstance(node, DictConfig):
        return [f"{name}: holds {node!r} where {record.__name__} is needed"]
    fields = record.__dataclass_fields__  # type: ignore[attr-defined]
    schema = OmegaConf.structured(record)
    faults = []
    for key in map(str, node):
        if key not in fields:
            faults.append(f"{name}.{key}: {record.__name__} has no '{key}'{near(key, fields)}")
            continue
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        try:
            schema[key] = node[key]
        except OmegaConfBaseException as error:
            faults.append(f"{name}.{key}: {str(error).splitlines()[0]}")
        choices = CHOICES.get(f"{name}.{key}")
        if choices and node[key] not in choices:
            faults.append(f"{name}.{key}: {node[key]!r} is no choice{near(str(node[key]), choices)}")
    return faults


def _missing_keys(node: DictConfig, path: str = "") -> list[str]:
    """Keys that hold `???`, without resolving any interpolation on the way."""
    missing = []
    for key in map(str, node):
        name = f"{path}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key):
            missing.append(name)
        elif not OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig):
            missing += _missing_keys(node[key], name)
    return missing
