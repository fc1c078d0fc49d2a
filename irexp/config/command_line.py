"""The command line, taken apart so that every fault is named at once, with its nearest spelling.

Hydra reports the first fault it meets, and accepts a misspelt key in a file without a word. Here the group choices are
composed without types, each value is looked up by its key, and the result is checked as a whole.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from irexp.config.check import ConfigError, config_faults, near
from irexp.config.schema import register_schema

#: Sweeps larger than this are checked by their first combinations here; each job checks its own configuration again.
_MOST_COMBINATIONS = 32

#: Flags that let Hydra run the program; with any other (--help, --cfg) it only prints.
_RUNNING_FLAGS = {"-m", "--multirun"}


def check_arguments(arguments: Sequence[str], config_dir: Path) -> None:
    """Check what was typed behind `run.py`; print what is wrong and exit with 2."""
    if any(argument.startswith("-") and argument not in _RUNNING_FLAGS for argument in arguments):
        return
    try:
        check_command_line(arguments, str(config_dir))
    except ConfigError as error:
        raise SystemExit(f"ConfigError: {error}") from None


def check_command_line(arguments: Sequence[str], config_dir: str) -> None:
    """Check what was typed behind `run.py`, each job of a sweep included.

    Raises:
        ConfigError: naming every fault of the command line and of the files that it selects.
    """
    overrides, faults = _parse([argument for argument in arguments if not argument.startswith("-")])
    register_schema(typed=False)
    try:
        with initialize_config_dir(config_dir, version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            groups, values = [], []
            for override in overrides:
                name = override.get_key_element().lstrip("+~").partition("@")[0]
                is_group = loader.list_groups(name) or loader.get_group_options(name)
                if is_group and not override.is_delete():
                    wrong = _option_faults(loader, override, name)
                    faults += wrong
                    groups += [] if wrong else [override]  # the default takes its place, so that the rest is checked
                elif not name.startswith("hydra"):
                    values.append(override)
            for chosen in _combinations(groups):
                faults += _composed_faults([*chosen], values)
    finally:
        register_schema(typed=True)
    if faults:
        raise ConfigError(faults)


def _parse(arguments: list[str]) -> tuple[list[Override], list[str]]:
    overrides, faults = [], []
    for argument in arguments:
        try:
            overrides += OverridesParser.create().parse_overrides([argument])
        except HydraException as error:
            faults.append(f"{argument}: {str(error).splitlines()[0]}; quote what has brackets: 'key=\"value(x)\"'")
    return overrides, faults


def _option_faults(loader: ConfigLoader, override: Override, group: str) -> list[str]:
    options = loader.get_group_options(group, results_filter=ObjectType.CONFIG)
    chosen = [option for choice in _choices(override) for option in (choice if isinstance(choice, list) else [choice])]
    return [
        f"{group}={option}: there is no such option in conf/{group}{near(str(option), options)}"
        for option in chosen
        if option is not None and str(option) not in options
    ]


def _choices(override: Override) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def _combinations(groups: list[Override]) -> Iterable[tuple[str, ...]]:
    """The group choices of each job of a sweep, as overrides."""
    each = [
        [f"{override.key_or_group}={choice}" for choice in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in groups
    ]
    return itertools.islice(itertools.product(*each), _MOST_COMBINATIONS)


def _composed_faults(groups: list[str], values: list[Override]) -> list[str]:
    """The faults of one job: of its files and of the values given to it."""
    try:
        config = compose("config", overrides=groups)
    except (HydraException, OmegaConfBaseException) as error:
        return [" ".join(str(error).split())]
    OmegaConf.set_struct(config, False)
    faults = []
    for override in values:
        faults += _set(config, override)
    return faults + config_faults(config)


def _set(config: DictConfig, override: Override) -> list[str]:
    key = override.get_key_element().lstrip("+~")
    parent, _, leaf = key.rpartition(".")
    try:
        node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    except OmegaConfBaseException as error:
        return [f"{key}: {str(error).splitlines()[0]}"]
    known = isinstance(node, DictConfig) and leaf in list(node)  # "in node" is False for what is ???
    if override.is_delete():
        return [] if known else [f"~{key}: there is no such key"]
    if not known and not override.is_add():
        return [f"{key}: there is no such key{_near_key(config, parent, leaf)}"]
    if parent and not isinstance(node, DictConfig):
        return [f"{key}: {parent} holds no keys"]
    faults = []
    for value in _choices(override):
        with open_dict(config):
            OmegaConf.update(config, key, value, force_add=True)
        if override.is_sweep_override():  # a later value must not hide an earlier one's fault
            faults += [fault for fault in config_faults(config) if fault.startswith(f"{key}:")]
    return faults


def _near_key(config: DictConfig, parent: str, leaf: str) -> str:
    """The nearest key of the same node, or the same key of another one (`model.k1` is `index.k1`)."""
    node = OmegaConf.select(config, parent) if parent else config
    if isinstance(node, DictConfig) and difflib.get_close_matches(leaf, [str(key) for key in node], n=1, cutoff=0.6):
        return near(f"{leaf}", [str(key) for key in node], cutoff=0.6)
    groups = {str(group): _peek(config, str(group)) for group in config}
    elsewhere = [f"{name}.{leaf}" for name, inner in groups.items() if isinstance(inner, DictConfig) and leaf in inner]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    if not isinstance(node, DictConfig):
        return ""
    return near(leaf, [key for key in map(str, node) if not key.startswith("_")])


def _peek(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None  # a node that cannot be resolved has its own fault
