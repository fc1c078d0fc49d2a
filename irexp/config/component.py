"""The check of components, the nodes with `_target_`: whether the target is allowed there, and fits its signature.

A misspelt option is an error instead of a silently swallowed argument, and someone else's file cannot name a function
that deletes files in the place of a loss.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from inspect import Parameter
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irexp.config.annotation import Annotation, allowed, classes, fits, nearest_word, spell
from irexp.config.packages import HOW_TO_DECLARE, is_in, packages_of_targets
from irexp.config.target import (
    ROLES,
    NoTargetError,
    Target,
    constant,
    describe,
    fills,
    functions_of,
    roles_of,
    target_of,
)

#: Keys that Hydra removes from a node before it calls the target; `_args_` is refused, since values need names.
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_"}

#: What the published sweeper for Optuna builds from such a part.
_SAMPLER = "optuna.samplers.BaseSampler"

#: Where a component may stand, and a text as well: the name of a run, or overrides of the experiment that makes one.
_ALSO_TEXTS = ("re_rank.candidates",)

#: What is meant by a text in the place of a component, by the component's role.
_MEANT = {
    "irexp.dataset.collection.Topics": "to evaluate on the development queries write 'dataset.test=${{dataset.dev}}', "
    "and files are named by {path}.queries_path=… and {path}.qrels_path=…",
    "irexp.dataset.collection.Documents": "a file is named by {path}.path={value}, with dataset=files or dataset=local",
    "irexp.dataset.collection.Examples": "a file is named by dataset=triples {path}.path={value}",
}

_UNNAMED = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL, Parameter.POSITIONAL_ONLY)


def component_faults(config: DictConfig, keys: Iterable[str] | None = None) -> list[str]:
    """The faults of every component of a configuration, each once, even if interpolations repeat it.

    Args:
        config: composed.
        keys: the top-level keys to check; None for all.
    """
    walk = _Walk()
    for key in map(str, config if keys is None else keys):
        walk.visit(config, key, key, roles_of(key))
    walk.visit_references()
    return walk.faults


class _Walk:
    """A walk over a configuration, node by node.

    Attributes:
        faults: the faults so far.
        places: the path of each node, by its `id`.
        references: the path of each interpolation, the node that it leads to, and the roles that are allowed there.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.places: dict[int, str] = {}
        self.references: list[tuple[str, DictConfig | ListConfig, Sequence[str]]] = []

    def visit(self, parent: DictConfig | ListConfig, key: Any, path: str, roles: Sequence[str]) -> None:
        """Visit the node at a key, and all nodes within it.

        Args:
            parent: the node that contains it.
            key: its key there.
            path: its path in the whole configuration.
            roles: the classes or modules that its target must belong to.
        """
        if OmegaConf.is_missing(parent, key) or path.startswith("artifact."):
            return  # an identity needs a configuration without faults
        try:
            node = parent[key]
        except OmegaConfBaseException as error:
            if "missing" not in str(error).lower():  # a missing value is reported once, by its own key
                self.faults.append(f"{path}: {str(error).splitlines()[0]}")
            return
        if not isinstance(node, DictConfig | ListConfig):
            is_known = roles_of(path) or all(is_in(role, ["irexp"]) for role in roles)  # not torch's float or tensor
            is_own = not OmegaConf.is_interpolation(parent, key)  # what it leads to has a fault at its own path
            if node is not None and roles and is_known and is_own and path.partition("[")[0] not in _ALSO_TEXTS:
                self.faults.append(_plain_fault(node, path, roles))
            return
        if OmegaConf.is_interpolation(parent, key):
            self.references.append((path, node, roles))
        else:
            self._visit_node(node, path, roles)

    def visit_references(self) -> None:
        """Check where interpolations lead: a configured node for its role alone, a resolver's result in full."""
        for path, node, roles in self.references:
            place = self.places.get(id(node))
            if place is None:
                self._visit_node(node, path, roles)
            elif not isinstance(node, DictConfig) or "_target_" not in node or not roles:
                continue
            elif not any(f.startswith(f"{place}._target_:") for f in self.faults):
                self.faults += _role_faults(node, path, [*roles, *functions_of(place)])

    def _visit_node(self, node: DictConfig | ListConfig, path: str, roles: Sequence[str]) -> None:
        self.places[id(node)] = path
        if isinstance(node, ListConfig):
            for position in range(len(node)):
                self.visit(node, position, f"{path}[{position}]", roles)
        elif "_target_" not in node:
            parts = OmegaConf.to_container(node, resolve=False).values()  # type: ignore[union-attr]
            is_several = f"{path}.*" in ROLES  # components by name: losses, loggers
            if roles and not is_several and any(isinstance(part, dict) and "_target_" in part for part in parts):
                self.faults.append(f"{path}: there is no _target_; it must be {' or '.join(map(describe, roles))}")
                return
            for name in map(str, node):
                self.visit(node, name, f"{path}.{name}", roles_of(f"{path}.{name}"))
        elif wrong := _role_faults(node, path, roles):
            self.faults += wrong
        else:
            self._visit_component(node, target_of(str(node["_target_"])), path)

    def _visit_component(self, node: DictConfig, target: Target, path: str) -> None:
        try:
            parameters = target.signature.parameters
        except NoTargetError as error:
            self.faults.append(f"{path}._target_: {error}")
            return
        self.faults += _bind(node, target, path)
        for name in map(str, node):
            annotation = parameters[name].annotation if name in parameters else None
            roles = classes(annotation, packages_of_targets()) if isinstance(annotation, Annotation) else []
            if any(is_in(role, ["hydra_plugins"]) for role in roles):  # a plugin annotates a part by its configuration
                roles.append(_SAMPLER)
            self.visit(node, name, f"{path}.{name}", roles)


def _role_faults(node: DictConfig, path: str, roles: Sequence[str]) -> list[str]:
    """Why a node's target is not allowed at its path."""
    target = str(node["_target_"])
    packages = packages_of_targets()
    if not is_in(target, packages):
        return [
            f"{path}._target_: {target} is outside of what a configuration may name ({', '.join(packages)}); "
            f"{HOW_TO_DECLARE}"
        ]
    try:
        found = target_of(target)
    except NoTargetError as error:
        return [f"{path}._target_: {error}"]
    if any(fills(found, role) for role in roles):
        return []
    wanted = " or ".join(map(describe, roles))
    return [f"{path}._target_: {target} is not allowed here" + (f": it must be {wanted}" if wanted else "")]


def _bind(node: DictConfig, target: Target, path: str) -> list[str]:
    """What is wrong with the keys and plain values of a node, by the signature of its target."""
    parameters = target.signature.parameters
    named = {name: parameter for name, parameter in parameters.items() if parameter.kind not in _UNNAMED}
    if not target.is_class:  # the caller passes the positional ones
        named = {name: parameter for name, parameter in named.items() if parameter.kind is Parameter.KEYWORD_ONLY}
    swallows = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    given = [str(key) for key in node if key not in _HYDRA_KEYS]
    known = [key for key in given if key in named]
    faults = [
        f"{path}.{key}: {target.path} has no '{key}'{_hint(target, key, named if target.is_class else known)}"
        for key in given
        if key not in named and not swallows
    ]
    if not node.get("_partial_"):
        required = [name for name, parameter in named.items() if parameter.default is Parameter.empty]
        faults += [f"{path}.{name}: {target.path} needs it" for name in required if name not in given]
    for key in known:
        if not target.is_class and OmegaConf.is_interpolation(node, key):
            continue  # what a stage receives is checked at its own path
        faults += _value_faults(node, key, path, named[key].annotation)
    return faults


def _plain_fault(value: Any, path: str, roles: Sequence[str]) -> str:
    """What is wrong with a plain value in the place of a component."""
    group, _, key = path.partition(".")
    meant = next((_MEANT[role] for role in roles if role in _MEANT), None)
    if meant is None and not key:
        meant = f"choose an option of conf/{group}, in a file by 'override /{group}: …' in its defaults"
    how = f"; {meant.format(path=path, value=value)}" if meant else ""
    return f"{path}: {value!r} stands where a node with _target_ belongs, {' or '.join(map(describe, roles))}{how}"


def _hint(target: Target, key: str, names: Iterable[str]) -> str:
    """The end of a message: the nearest name, or why a class lacks what similar ones have: its `without_<key>`."""
    reason = constant(target.path, f"without_{key}") if target.is_class else None
    return f": {reason}" if reason else _near(key, names)


def _value_faults(node: DictConfig, key: str, path: str, annotation: Any) -> list[str]:
    """What is wrong with a plain value, by the annotation of its parameter."""
    kinds = allowed(annotation) if isinstance(annotation, Annotation) else None
    if kinds is None or OmegaConf.is_missing(node, key):
        return []
    try:
        value = node[key]
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
    except OmegaConfBaseException:
        return []  # an interpolation that leads nowhere has its own fault
    return [] if fits(value, kinds) else [f"{path}.{key}: {value!r} is not {spell(kinds)}{nearest_word(value, kinds)}"]


def _near(word: str, names: Iterable[str]) -> str:
    offered = list(names)
    matches = difflib.get_close_matches(word, offered, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; it has {', '.join(offered) or 'no options'}"
