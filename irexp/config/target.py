"""What a `_target_` names, and whether that may stand where it stands.

All of it is read from source. What the source does not tell, such as a function that is made at run time, is imported.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
from contextlib import suppress
from dataclasses import dataclass
from inspect import Signature
from typing import Any

from irexp.config.signature import signature_of
from irexp.config.source import Definition, UnreadableError, ancestry, find, read

#: What may stand where: a class, for itself and the classes below it, or a module or package, for its functions. What
#: stands within a component is held to the annotation of the parameter instead.
ROLES: dict[str, tuple[str, ...]] = {
    "backbone": ("irexp.backbone.backbone.Backbone",),
    "model": ("irexp.model.model.Model",),
    "index": ("irexp.index.index.Index",),
    "loss": ("irexp.loss.loss.Loss",),
    "loss.losses.*": ("irexp.loss.loss.Loss",),
    "regularizer": ("irexp.regularizer.regularizer.Regularizer",),
    "adapter": ("peft.LoraConfig",),
    "optimizer": ("torch.optim.Optimizer", "irexp.training.eight_bit"),
    "schedule": ("irexp.training.schedule",),
    "dataset.documents": ("irexp.dataset.collection.Documents",),
    "dataset.train": ("irexp.dataset.collection.Examples",),
    "dataset.train.sets.*": ("irexp.dataset.mixture.TrainingSet",),
    "dataset.dev": ("irexp.dataset.collection.Topics",),
    "dataset.test": ("irexp.dataset.collection.Topics",),
    "validation.*": ("irexp.dataset.validation_set.ValidationSet",),
    "re_rank.candidates": ("irexp.dataset.collection.ScoredDocs",),
    "logger": ("irexp.training.tracking",),
    "logger.*": ("irexp.training.tracking",),
    "stage.*": ("irexp.stage",),
    "hydra.callbacks.*": ("hydra.experimental.callback.Callback",),
    "hydra.launcher": ("hydra.plugins.launcher.Launcher",),
    "hydra.sweeper": ("hydra.plugins.sweeper.Sweeper",),
}


def roles_of(place: str) -> tuple[str, ...]:
    """What may stand at a place of the configuration that is not within a component."""
    return ROLES.get(place) or ROLES.get(f"{place.rpartition('.')[0]}.*", ())


def functions_of(place: str) -> list[str]:
    """The modules whose functions may stand at a place of the configuration, besides the classes."""
    return [role for role in roles_of(place) if read(role)]


class NoTargetError(LookupError):
    """A dotted path that names nothing that could be built or called."""


@dataclass(frozen=True, eq=False)
class Target:
    """What a dotted path names.

    Attributes:
        path: as it was written.
        is_class: whether it is a class rather than a function.
        found: where it is defined, or the thing itself, where it had to be imported.
    """

    path: str
    is_class: bool
    found: Any

    @functools.cached_property
    def signature(self) -> Signature:
        """That of the constructor or the function; an annotation that was read is an `Annotation`.

        Raises:
            NoTargetError: if it has none.
        """
        with suppress(UnreadableError):  # it is made at run time
            if isinstance(self.found, Definition):
                return signature_of(self.found)
        try:
            return inspect.signature(_import(self.path))
        except ValueError as error:
            raise NoTargetError(f"{self.path} cannot be called with settings ({error})") from error


@functools.cache
def target_of(path: str) -> Target:
    """What a dotted path names.

    Raises:
        NoTargetError: if that is neither a class nor a function.
    """
    with suppress(UnreadableError):  # the import tells
        definition = find(path)
        if definition is None:
            raise NoTargetError(f"{path} cannot be found{_nearest(path)}")
        if isinstance(definition.node, ast.ClassDef | ast.FunctionDef):
            return Target(path, isinstance(definition.node, ast.ClassDef), definition)
    component = _import(path)
    if not inspect.isclass(component) and not inspect.isroutine(component):
        raise NoTargetError(f"{path} is neither a class nor a function")
    return Target(path, inspect.isclass(component), component)


@functools.cache
def fills(target: Target, role: str) -> bool:
    """Whether something may stand where a role is asked for, see `ROLES`."""
    if read(role):
        module = target.found.module.name if isinstance(target.found, Definition) else str(target.found.__module__)
        return not target.is_class and f"{module}.".startswith(f"{role}.")
    if not target.is_class:
        return False
    with suppress(UnreadableError):  # a base that is made at run time
        wanted = find(role)
        if wanted and isinstance(target.found, Definition):
            return any(ancestor.path == wanted.path for ancestor in ancestry(target.found))
    return issubclass(_import(target.path), _import(role))


@functools.cache
def constant(path: str, name: str) -> Any:
    """A plain value that a class says of itself, or a class that it is made of: what an engine takes, say.

    Args:
        path: the class.
        name: the attribute.

    Returns:
        The value; None if the class says none, or its source does not tell.
    """
    try:
        definition = find(path)
        for ancestor in ancestry(definition) if definition else ():
            for statement in ancestor.class_node.body:
                if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant):
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    if name in [target.id for target in targets if isinstance(target, ast.Name)]:
                        return statement.value.value
    except UnreadableError:
        return None
    return None


def describe(role: str) -> str:
    """A role, in words."""
    return f"a function of {role}" if read(role) else f"{role} or a class below it"


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NoTargetError(f"{path} cannot be found ({error})") from error


def _nearest(path: str) -> str:
    """The end of a message: the nearest name of the module, or of the package."""
    parent, _, name = path.rpartition(".")
    module = read(parent)
    matches = difflib.get_close_matches(name, module.names, n=1) if module else []
    return f"; did you mean {parent}.{matches[0]}?" if matches else ""
