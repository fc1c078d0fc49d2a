"""Which family a checkpoint names: a class, found by its path or among irexp's own."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import irexp.model
from irexp.config.packages import HOW_TO_DECLARE, is_in, packages_of_components
from irexp.model.model import Model, families_in
from irexp.types import UserError


def find_family(name: object, place: Path, kind: type[Model] | None = None) -> type[Model]:
    """The class that a file names.

    Args:
        name: what `Model.family` returns, or the bare name of one of irexp's own classes.
        place: the file.
        kind: the class of the configured model, which may be of any package.

    Raises:
        UserError: if there is no such class, if it is not a family, or if it is of a package that a file may not name.
    """
    if kind is not None and name == kind.family():
        return kind
    module, _, attribute = str(name).rpartition(".")
    if not module:
        return _own(str(name), place)
    packages = packages_of_components()
    if not is_in(module, packages):  # nothing else is imported because a file says so
        raise UserError(
            f"{place}: the family {name!r} is not in a package whose classes a checkpoint may name "
            f"({', '.join(packages)}); {HOW_TO_DECLARE}; or name the class: load(…, like=partial({attribute}))"
        )
    try:
        family = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{place}: the family {name!r} cannot be found ({error})") from None
    if not (isinstance(family, type) and issubclass(family, Model)) or inspect.isabstract(family):
        raise UserError(f"{place}: {name!r} is not a family of models")
    return family


def _own(name: str, place: Path) -> type[Model]:
    """One of irexp's own, by the name of its module or its class."""
    modules = [import_module(f"{irexp.model.__name__}.{m.name}") for m in pkgutil.iter_modules(irexp.model.__path__)]
    own = {family: module.__name__.rpartition(".")[2] for module in modules for family in families_in(module)}
    found = [family for family, module in own.items() if name in (module, family.__name__)]
    if len(found) != 1:
        raise UserError(f"{place}: the family {name!r} is not known; {', '.join(own.values())} are")
    return found[0]
