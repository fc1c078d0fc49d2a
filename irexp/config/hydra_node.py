"""The check of Hydra's own node, from which Hydra builds objects before a job begins and could check anything."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from irexp.config.check import record_faults
from irexp.config.component import component_faults
from irexp.config.limits import RANGES
from irexp.config.packages import VARIABLE
from irexp.config.schema import RayResources, Resources

#: The class of the objects that `logging.config` builds in each section.
_SECTIONS = {"handlers": logging.Handler, "formatters": logging.Formatter, "filters": logging.Filter}

#: Modules whose classes are allowed there.
_MODULES = ("logging", "logging.handlers", "colorlog")

#: Keys whose value `logging.config` imports and calls, at any depth.
_CALLED = ("()", "class", "queue", "listener")

#: Where the launchers of irexp are.
LAUNCHERS = "hydra_plugins.irexp_launcher."

#: The number of a job, in the name of its folder.
_NUMBER = re.compile(r"\$\{hydra[:.]job\.(num|id)\}")

#: Objects that a value may refer to.
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


def hydra_faults(config: DictConfig) -> list[str]:
    """What is wrong with callbacks, launcher and sweeper, and with the classes that the logging setup names."""
    faults = component_faults(config, ["hydra"])
    if not faults:
        faults += _launcher_faults(OmegaConf.select(config, "hydra.launcher"))
    faults += _folder_faults(config)
    if VARIABLE in (OmegaConf.select(config, "hydra.job.env_set") or {}):  # set before a job checks its configuration
        faults.append(f"hydra.job.env_set.{VARIABLE}: a configuration declares no package; set it in the environment")
    for name in ("job_logging", "hydra_logging"):
        node = OmegaConf.select(config, f"hydra.{name}")
        if isinstance(node, DictConfig):
            for path, value in _texts(OmegaConf.to_container(node, resolve=False), ()):
                faults += _logging_faults(value, path, ".".join(("hydra", name, *path)))
    return faults


def _folder_faults(config: DictConfig) -> list[str]:
    """What is wrong with the folders of jobs: each has its own below the sweep's, and all see the same artifacts."""
    faults = []
    if OmegaConf.select(config, "hydra.job.chdir"):
        faults.append(
            "hydra.job.chdir=true: a relative path, as that of the artifacts, would mean another folder in each job; "
            "leave it false"
        )
    sweep = OmegaConf.to_container(OmegaConf.select(config, "hydra.sweep") or OmegaConf.create(), resolve=False)
    subdir = str(sweep.get("subdir") or "") if isinstance(sweep, dict) else ""
    if subdir and (not _NUMBER.search(subdir) or "override_dirname" in subdir or "/" in _NUMBER.sub("", subdir)):
        faults.append(
            f"hydra.sweep.subdir={subdir}: the folder of each job is one name with its number, without which jobs "
            f"would replace each other's records; write ${{hydra.job.num}}, or for example "
            f"${{hydra.job.num}}-${{model.name}}"
        )
    return faults


def place_faults(config: DictConfig, key: str) -> list[str]:
    """What is wrong with the folder of a job's or a sweep's records, where Hydra would end with a traceback.

    Args:
        config: composed, with Hydra's own node.
        key: hydra.run.dir or hydra.sweep.dir.
    """
    try:
        folder = Path(str(OmegaConf.select(config, key))).absolute()
    except OmegaConfBaseException:
        return []  # which Hydra reports
    place = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return []
    return [f"{key}={folder}: nothing can be written into {place}; set {key} to a folder where that is possible"]


def _launcher_faults(node: Any) -> list[str]:
    """What is wrong with the values of irexp's launchers; a node that fits its class."""
    if not str(OmegaConf.select(node, "_target_")).startswith(LAUNCHERS):
        return []
    faults = [
        f"hydra.launcher.{key}: {node[key]} is out of range; it must be at least {RANGES[f'hydra.launcher.{key}'][0]}"
        for key in ("workers", "shares", "seconds", "retries")
        if key in node and node[key] < RANGES[f"hydra.launcher.{key}"][0]
    ]
    default = node.get("default")
    if default is None:
        return faults
    record = RayResources if node._target_.endswith(".RayLauncher") else Resources
    faults += record_faults(default, "hydra.launcher.default", record)
    for stage, changes in node.stages.items() if not faults else ():
        if not isinstance(changes, DictConfig):
            faults.append(f"hydra.launcher.stages.{stage}: must hold keys of {', '.join(map(str, default))}")
            continue
        with flag_override(default, "struct", False):
            found = record_faults(OmegaConf.merge(default, changes), "hydra.launcher.default", record)
        faults += [fault.replace("launcher.default", f"launcher.stages.{stage}", 1) for fault in found]
    return faults


def _texts(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every string within a node, with its keys."""
    if isinstance(node, str):
        yield path, node
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in entries:
        yield from _texts(inner, (*path, str(key)))


def _logging_faults(value: str, path: tuple[str, ...], name: str) -> list[str]:
    if value.startswith("ext://") and value not in _STREAMS:
        return [f"{name}: {value} is not allowed; there are {', '.join(_STREAMS)}"]
    if path[-1] not in _CALLED:
        return []
    base = _SECTIONS.get(path[0]) if len(path) == 3 else None
    module, _, last = value.rpartition(".")
    found = _class(module, last) if module in _MODULES else None
    if base and inspect.isclass(found) and issubclass(found, base):
        return []
    wanted = f": it must be a logging.{base.__name__} of {', '.join(_MODULES)}" if base else ""
    return [f"{name}: {value} is not allowed here{wanted}"]


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
