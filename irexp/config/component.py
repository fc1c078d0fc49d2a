"""Components (nodes with `_target_`) against the signature of what they name.

Any `_target_` is held to an allow-list, and its keys and simple values to its constructor: a misspelt option is an
error, not an argument swallowed in silence.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

#: Packages whose classes and functions a configuration may name.
ALLOWED_PACKAGES = ("irexp", "torch", "lightning", "transformers", "peft")

_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}

#: What the runner hands to a stage or a logger beside the configuration.
_GIVEN_BY_RUNNER = {
    *("folder", "checkpoint", "encoding", "index_folder", "run", "negatives_run", "candidates"),
    *("fused", "fused_dev", "measured"),
    *("logger", "save_dir", "group"),
}


def component_faults(config: DictConfig) -> list[str]:
    """The faults of every component below a configuration; each once, though interpolations repeat it."""
    faults: list[str] = []
    for key in map(str, config):
        _visit(config, key, key, faults)
    return faults


def _visit(parent: DictConfig | ListConfig, key: Any, path: str, faults: list[str]) -> None:
    if OmegaConf.is_missing(parent, key) or OmegaConf.is_interpolation(parent, key):
        if not OmegaConf.is_missing(parent, key):
            _resolves(parent, key, path, faults)
        return
    node = parent[key]
    if isinstance(node, ListConfig):
        for position in range(len(node)):
            _visit(node, position, f"{path}[{position}]", faults)
    elif isinstance(node, DictConfig):
        if "_target_" in node:
            faults += _bind(node, path)
        for inner in map(str, node):
            _visit(node, inner, f"{path}.{inner}", faults)


def _resolves(parent: DictConfig | ListConfig, key: Any, path: str, faults: list[str]) -> None:
    if path.startswith("artifact."):
        return  # an identity needs a configuration without faults
    try:
        parent[key]
    except OmegaConfBaseException as error:
        if "missing" not in str(error).lower():  # a missing value is named once, where it is missing
            faults.append(f"{path}: {str(error).splitlines()[0]}")


def _bind(node: DictConfig, path: str) -> list[str]:
    target = str(node["_target_"])
    if target.partition(".")[0] not in ALLOWED_PACKAGES:
        return [
            f"{path}._target_: {target} is outside of what a configuration may name ({', '.join(ALLOWED_PACKAGES)})"
        ]
    try:
        component = find(target)
        signature = inspect.signature(component)
    except (ImportError, AttributeError, ValueError) as error:
        return [f"{path}._target_: {target} cannot be found ({error})"]
    parameters = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    swallows = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    given = [str(key) for key in node if key not in _HYDRA_KEYS]
    faults = [
        f"{path}.{key}: {target} has no '{key}'{_near(key, parameters)}"
        for key in given
        if key not in parameters and not swallows
    ]
    is_partial = bool(node.get("_partial_"))
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if not is_partial:
        faults += [f"{path}.{name}: {target} needs it" for name in required if name not in given]
    return faults + _value_faults(node, path, component, [key for key in given if key in parameters])


def find(target: str) -> Any:
    """The class or function that a dotted path names."""
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _value_faults(node: DictConfig, path: str, component: Any, keys: list[str]) -> list[str]:
    """Simple values against the annotations of the constructor."""
    try:
        hints = typing.get_type_hints(component.__init__ if inspect.isclass(component) else component)
    except (NameError, TypeError):
        return []  # annotations under TYPE_CHECKING cannot be read; the constructor checks its own values
    faults = []
    for key in keys:
        if OmegaConf.is_missing(node, key) or key not in hints:
            continue
        try:
            value = node[key]
        except OmegaConfBaseException:
            continue  # named by _resolves
        allowed = _alternatives(hints[key])
        if isinstance(value, DictConfig | ListConfig) or allowed is None or _fits(value, allowed):
            continue
        faults.append(f"{path}.{key}: {value!r} is not {_spell(allowed)}{_nearest_literal(value, allowed)}")
    return faults


def _alternatives(hint: Any) -> list[Any] | None:
    """The simple types and literal values that an annotation allows; None if it allows anything else."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        simple = [part for part in typing.get_args(hint) if typing.get_origin(part) is not Sequence]  # lists pass
        parts = [_alternatives(part) for part in simple]
        return None if any(part is None for part in parts) else [item for part in parts for item in part or []]
    if typing.get_origin(hint) is Literal:
        return [repr(value) for value in typing.get_args(hint)]
    return [hint] if hint in (int, float, str, bool, type(None)) else None


def _fits(value: Any, allowed: list[Any]) -> bool:
    if repr(value) in allowed:
        return True
    kinds = [kind for kind in allowed if isinstance(kind, type)]
    return type(value) in kinds or (float in kinds and type(value) is int)


def _spell(allowed: list[Any]) -> str:
    names = [
        "null" if kind in (type(None), "None") else kind.__name__ if isinstance(kind, type) else kind
        for kind in allowed
    ]
    return " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"


def _nearest_literal(value: Any, allowed: list[Any]) -> str:
    words = [item.strip("'") for item in allowed if isinstance(item, str)]
    matches = difflib.get_close_matches(str(value), words, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _near(word: str, names: Any) -> str:
    offered = [name for name in names if name not in _GIVEN_BY_RUNNER]
    matches = difflib.get_close_matches(word, offered, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; it has {', '.join(offered) or 'no options'}"
