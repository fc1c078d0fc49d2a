"""The check of the command line: every fault in one message, with the nearest spelling.

Hydra reports only the first fault, and silently accepts a misspelt key in a file. Here the group choices are composed
without types, each value is looked up by its key, and the result is checked as a whole.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from irexp.config.check import ConfigError, config_faults, near
from irexp.config.hydra_node import hydra_faults, place_faults
from irexp.config.installation import CONF, install_command
from irexp.config.override import (
    choices,
    combinations,
    list_fault,
    overruled_faults,
    parse,
    single_option_faults,
    values,
)
from irexp.config.packages import HOW_TO_DECLARE, is_in, packages_of_targets
from irexp.config.schema import register_schema

_SEVERAL = "several values are a sweep, which needs -m; write a list as [a,b], and quote a text with commas twice"

_INTERVAL = (
    "Hydra's basic sweeper takes no interval; list values, such as 1e-5,1e-4,1e-3, or choose a sweeper that samples: "
    "hydra/sweeper=optuna"
)

#: The keys of Hydra's node that are read once for a whole sweep.
_OF_THE_SWEEP = ("sweeper", "launcher", "mode", "sweep")

#: Flags with which Hydra prints something and runs nothing.
_PRINTING = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")


def check_arguments(arguments: Sequence[str], config_dir: Path) -> None:
    """Check the overrides and flags that were typed; print what is wrong and exit with 1."""
    try:
        check_command_line(arguments, config_dir)
    except ConfigError as error:
        raise SystemExit(f"ConfigError: {error}") from None


def check_command_line(arguments: Sequence[str], config_dir: str | Path) -> None:
    """Check the overrides and flags that were typed, including each job of a sweep; flags that only print pass.

    Raises:
        ConfigError: naming every fault of the command line and of the files that it selects.
    """
    typed = get_args_parser().parse_args(list(arguments))
    if any(getattr(typed, flag) for flag in _PRINTING):
        return
    register_schema(typed=False)
    try:
        with _files(typed, Path(config_dir)) as files:
            faults = _faults(typed, files)
    finally:
        register_schema(typed=True)
    if faults:
        raise ConfigError(faults)


def override_faults(overrides: Sequence[str]) -> list[str]:
    """What is wrong with overrides of another experiment, which are named in a file or in an override."""
    typed = get_args_parser().parse_args(list(overrides))
    register_schema(typed=False)
    try:
        if GlobalHydra.instance().is_initialized():
            search = [override for override in overrides if override.startswith("hydra.searchpath=")]
            return _faults(typed, _Files(GlobalHydra.instance().config_loader(), "config", search))
        with _files(typed, CONF) as files:
            return _faults(typed, files)
    finally:
        register_schema(typed=True)


@dataclass(frozen=True)
class _Files:
    """The files that a configuration is composed from.

    Attributes:
        loader: Hydra's loader of these files.
        name: the name of the primary configuration.
        search: the overrides that add folders.
    """

    loader: ConfigLoader
    name: str
    search: list[str]

    def options(self, group: str, kind: ObjectType = ObjectType.CONFIG) -> list[str]:
        """The files of a group, or its folders."""
        return list(self.loader.get_group_options(group, kind, self.name, self.search))

    def compose(self, groups: Sequence[str]) -> DictConfig:
        """The configuration with the chosen options, including Hydra's own node.

        Raises:
            HydraException: if the files do not fit together, or one cannot be read.
        """
        try:
            config = self.loader.load_configuration(
                self.name, [*self.search, *groups], RunMode.RUN, from_shell=False, validate_sweep_overrides=False
            )
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            raise HydraException(str(error)) from error
        OmegaConf.set_struct(config, False)
        return config


@contextmanager
def _files(typed: Namespace, config_dir: Path) -> Iterator[_Files]:
    """The files that Hydra would use, by the flags that were typed."""
    version.setbase("1.3")
    folder = str(config_dir)
    if typed.config_path is not None:  # Hydra would look for a relative one inside the package
        folder = typed.config_path
        if not folder.startswith("pkg://") and not Path(folder).is_absolute():
            raise ConfigError([f"--config-path={folder}: must be absolute: --config-path={Path(folder).absolute()}"])
    search_path = create_config_search_path(folder)
    if typed.config_dir is not None:
        further = Path(typed.config_dir).absolute()
        if not further.is_dir():
            raise ConfigError([f"--config-dir={typed.config_dir}: there is no such folder"])
        search_path.prepend("command-line", f"file://{further}", SearchPathQuery(provider="schema"))
    search = [override for override in typed.overrides if override.lstrip("+").startswith("hydra.searchpath=")]
    for name in re.findall(r"pkg://([\w.]+)", " ".join([folder, *search])):  # Hydra imports the package
        if not is_in(name, packages_of_targets()):
            raise ConfigError([f"pkg://{name} is outside of what a configuration may name; {HOW_TO_DECLARE}"])
    before = get_gh_backup()
    hydra = Hydra.create_main_hydra2("irexp", search_path)
    try:
        yield _Files(hydra.config_loader, typed.config_name or "config", search)
    finally:
        restore_gh_from_backup(before)


def _faults(typed: Namespace, files: _Files) -> list[str]:
    overrides, faults = parse(typed.overrides, files.loader)
    try:
        groups, settings, wrong = _split(overrides, files)
        faults += wrong
        alone = [each[0] for each in groups if len(each) == 1]  # Hydra reads the settings of a sweep from these
        config, wrong = _compose(files, alone, settings)
        if typed.multirun or config.hydra.mode == RunMode.MULTIRUN:
            swept, more = parse(_swept_by_files(config, overrides), files.loader)
            faults += more
            faults += _ignored_faults(files, alone, groups) + _package_faults(config)
            faults += place_faults(config, "hydra.sweep.dir")
            if str(OmegaConf.select(config, "hydra.sweeper._target_")).endswith(".BasicSweeper"):
                faults += [f"{o.input_line}: {_INTERVAL}" for o in [*overrides, *swept] if o.is_interval_sweep()]
        else:
            swept = []
            faults += place_faults(config, "hydra.run.dir")
            faults += [f"{o.input_line}: {_SEVERAL}" for o in overrides if o.is_sweep_override()]
        further, before, more = _split(swept, files)
        faults += more
        for number, chosen in enumerate(combinations(groups + further)):
            if number or further or len(alone) < len(groups):
                config, wrong = _compose(files, chosen, settings)
            faults += wrong + _job_faults(config, before + settings, files)
    except HydraException as error:
        faults.append(" ".join(str(error).split()) or " ".join(str(error.__cause__).split()))
    return faults


def _ignored_faults(files: _Files, alone: list[str], groups: list[list[str]]) -> list[str]:
    """The swept options that set how the sweep runs, such as its parameters, which Hydra reads from none of them."""
    swept = [option for each in groups if len(each) > 1 for option in each]
    if not swept:
        return []
    before, faults = _plain_hydra(files.compose(alone)), []
    for option in swept:
        after = _plain_hydra(files.compose([*alone, option]))
        if ignored := [f"hydra.{key}" for key in _OF_THE_SWEEP if after[key] != before[key]]:
            faults.append(
                f"{option}: it sets {' and '.join(ignored)}, which is ignored where several options are swept; "
                f"run it by itself, with -m {option}"
            )
    return faults


def _plain_hydra(config: DictConfig) -> dict[str, Any]:
    """Hydra's node as it is written: a folder's name holds the time."""
    plain = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _package_faults(config: DictConfig) -> list[str]:
    """That Optuna is not installed, if its sweeper is chosen."""
    is_chosen = str(OmegaConf.select(config, "hydra.sweeper._target_")).startswith("hydra_plugins.irexp_optuna.")
    if not is_chosen or importlib.util.find_spec("optuna") is not None:
        return []
    return [f"hydra/sweeper=optuna needs the package optuna: {install_command('optuna')}"]


def _split(overrides: list[Override], files: _Files) -> tuple[list[list[str]], list[Override], list[str]]:
    """The choices of each group, the overrides of values, and the faults of the rest."""
    groups, settings, faults = [], [], []
    folders = files.options("", ObjectType.GROUP)
    for override in overrides:
        name = override.key_or_group
        is_group = name.partition("/")[0] in folders
        wrong = _option_faults(override, files.options(name)) if is_group and not override.is_delete() else []
        if (several := list_fault(str(override.input_line))) and not wrong:
            groups += [[f"{override.get_key_element().lstrip('+')}={first}"] for first in values(override)[0][:1]]
            wrong = [several]  # and with the first of them the rest is checked
        faults += wrong
        if is_group and not wrong:  # the default replaces a wrong option, so that the rest is checked
            groups.append(choices(override))
        elif not is_group and name != "hydra.searchpath":
            settings.append(override)
    return groups, settings, faults


def _option_faults(override: Override, options: list[str]) -> list[str]:
    group = override.key_or_group
    chosen = [name for value in values(override) for name in (value if isinstance(value, list) else [value])]
    words = ["null" if name is None else str(name) for name in chosen]
    return [
        f"{group}={word}: there is no such option in conf/{group}{near(word, options)}"
        for word in words
        if word not in options
    ]


def _compose(files: _Files, groups: Sequence[str], settings: list[Override]) -> tuple[DictConfig, list[str]]:
    """The configuration with the chosen options and Hydra's own settings, and the faults of these settings."""
    config = files.compose(groups)
    faults = single_option_faults(config.hydra.runtime.choices, config, groups)
    faults += overruled_faults(config, [*groups, *(str(each.input_line) for each in settings)])
    return config, faults + [f for each in settings if each.is_hydra_override() for f in _set(config, each, files)]


def _swept_by_files(config: DictConfig, typed: list[Override]) -> list[str]:
    """The sweeps of the files (`hydra.sweeper.params`), except for keys that were typed."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    known = {override.key_or_group for override in typed}
    return [f"{key}={params[key]}" for key in map(str, params) if key.lstrip("+~") not in known]


def _job_faults(config: DictConfig, settings: list[Override], files: _Files) -> list[str]:
    """The faults of one job: of its files and of the values that are set."""
    faults = [fault for each in settings if not each.is_hydra_override() for fault in _set(config, each, files)]
    faults += hydra_faults(config)
    with open_dict(config):
        config.pop("hydra")
    return faults + config_faults(config)


def _set(config: DictConfig, override: Override, files: _Files) -> list[str]:
    """Set the values of an override one by one; returns what is wrong with each."""
    key = override.key_or_group
    parent, _, leaf = key.rpartition(".")
    try:
        node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    except OmegaConfBaseException as error:
        return [f"{key}: {str(error).splitlines()[0]}"]
    known = isinstance(node, DictConfig) and leaf in list(node)  # "in node" is False for a key that holds ???
    if override.is_delete():
        if known:
            with open_dict(node):
                del node[leaf]
        return [] if known else [f"~{key}: there is no such key"]
    if not known and not (override.is_add() or override.is_force_add()):
        return [f"{key}: there is no such key{_near_key(config, parent, leaf, files)}"]
    if parent and not isinstance(node, DictConfig):
        return [f"{key}: {parent} has no keys"]
    faults = []
    for value in values(override):
        try:
            with open_dict(config):
                OmegaConf.update(config, key, value, force_add=True)
        except OmegaConfBaseException as error:
            faults.append(f"{key}: {str(error).splitlines()[0]}")
        if override.is_sweep_override():  # a later value must not hide an earlier one's fault
            found = config_faults(config, [key.partition(".")[0]])
            faults += [fault for fault in found if fault.startswith((f"{key}:", f"{key}.", f"{key}["))]
    return faults


def _near_key(config: DictConfig, parent: str, leaf: str, files: _Files) -> str:
    """The nearest key of the same node, or the same key of another node (`model.k1` is `index.k1`) or option."""
    node = OmegaConf.select(config, parent) if parent else config
    keys = [str(key) for key in node if not str(key).startswith("_")] if isinstance(node, DictConfig) else []
    if difflib.get_close_matches(leaf, keys, n=1, cutoff=0.6):
        return near(leaf, keys, cutoff=0.6)
    groups = {str(group): _peek(config, str(group)) for group in config if group != "hydra"}
    elsewhere = [f"{name}.{leaf}" for name, inner in groups.items() if isinstance(inner, DictConfig) and leaf in inner]
    if leaf.startswith("_"):
        return ""
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    group, _, inner = f"{parent}.{leaf}".partition(".")
    options = _options_with(group, inner, files) if group in groups else []
    return f"; {' and '.join(f'{group}={option}' for option in options)} has it" if options else near(leaf, keys)


def _options_with(group: str, key: str, files: _Files) -> list[str]:
    """The options of a group that have a key: those that need a value for it, else the first one that has some."""
    found: dict[str, bool] = {}
    parent, _, leaf = f"{group}.{key}".rpartition(".")
    for option in files.options(group):
        try:
            node = OmegaConf.select(files.compose([f"{group}={option}"]), parent)
        except (HydraException, OmegaConfBaseException):
            continue  # a file of the group that does not fit here
        if isinstance(node, DictConfig) and leaf in list(node):
            found[option] = OmegaConf.is_missing(node, leaf)
    return [option for option, is_needed in found.items() if is_needed] or list(found)[:1]


def _peek(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None  # a node that cannot be resolved has its own fault
