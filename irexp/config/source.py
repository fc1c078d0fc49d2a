"""Classes and functions found by reading source, never by importing it: torch and transformers take seconds to import.

A dotted path leads to a module's file, and from there to the definition, even if that is imported from another module.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

#: Bases that add neither a constructor nor a role.
_NEUTRAL = {"builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol"}


class UnreadableError(Exception):
    """The source does not show the definition: a compiled module, or a name that is created at run time."""


@dataclass(eq=False)
class Module:
    """The top level of a module.

    Attributes:
        name: its dotted path.
        package: what relative imports are relative to.
        file: where its source is.
        names: what each name is: a class, a function, the expression that is assigned to it, or, if it is imported, the
            dotted path that it stands for.
        stars: the modules that are imported with `*`.
    """

    name: str
    package: str
    file: Path
    names: dict[str, ast.AST | str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Definition:
    """A class, a function or an assigned expression, and the module that defines it."""

    module: Module
    name: str
    node: ast.AST

    @property
    def path(self) -> str:
        """Its dotted path in the module that defines it."""
        return f"{self.module.name}.{self.name}"

    @property
    def class_node(self) -> ast.ClassDef:
        """The statement of a class."""
        assert isinstance(self.node, ast.ClassDef), self.path
        return self.node


@functools.cache
def find(path: str) -> Definition | None:
    """The definition that a dotted path leads to; None if there is none.

    Raises:
        UnreadableError: if there may be one that the source does not show.
    """
    return _find(path, ())


def _find(path: str, seen: tuple[str, ...]) -> Definition | None:
    parent, _, name = path.rpartition(".")
    module = read(parent) if path not in seen else None
    if module is None:
        return None
    found = module.names.get(name)
    if isinstance(found, ast.AST):
        return Definition(module, name, found)
    for source in [found] if found else [f"{star}.{name}" for star in module.stars]:
        if definition := _find(source, (*seen, path)):
            return definition
    if found or "__getattr__" in module.names:
        raise UnreadableError(f"{path} cannot be followed from {parent}")
    return None


def qualify(expression: ast.AST, module: Module) -> str | None:
    """The absolute dotted path of a name as a module uses it; None for anything else."""
    if isinstance(expression, ast.Attribute):
        owner = qualify(expression.value, module)
        return f"{owner}.{expression.attr}" if owner else None
    if not isinstance(expression, ast.Name):
        return None
    known = module.names.get(expression.id)
    if isinstance(known, str):
        return known
    return f"{module.name if known or not hasattr(builtins, expression.id) else 'builtins'}.{expression.id}"


def ancestry(definition: Definition) -> Iterator[Definition]:
    """A class and its bases, in the order in which Python looks names up; each is read when it is reached.

    Raises:
        UnreadableError: at a base that is not found.
    """
    yield definition
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in definition.class_node.bases]
    paths = [qualify(base, definition.module) for base in bases]
    found = [_class(path, definition) for path in paths if path not in _NEUTRAL]
    if len(found) == 1:
        yield from ancestry(found[0])
        return
    lines = [ancestor for base in found for ancestor in ancestry(base)]
    last = {ancestor.path: position for position, ancestor in enumerate(lines)}  # a shared base follows its subclasses
    yield from (ancestor for position, ancestor in enumerate(lines) if last[ancestor.path] == position)


def _class(path: str | None, definition: Definition) -> Definition:
    found = find(path) if path else None
    if found is None or not isinstance(found.node, ast.ClassDef):
        raise UnreadableError(f"{definition.path} has a base, {path}, whose class is not found in source")
    return found


@functools.cache
def read(name: str) -> Module | None:
    """The module of a dotted path; None if there is none.

    Raises:
        UnreadableError: if there is one without source.
    """
    file = _file(name)
    if file is None:
        return None
    module = Module(name, name if file.name == "__init__.py" else name.rpartition(".")[0], file)
    for statement, is_alternative in _statements(ast.parse(file.read_bytes(), str(file)).body):
        for key, value in _names(statement, module).items():
            if key not in module.names or not is_alternative:
                module.names[key] = value
    return module


def _file(name: str) -> Path | None:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # for a top-level name this imports nothing
    except ValueError:
        return None
    if spec is None:
        return None
    if not rest and spec.origin and not spec.origin.endswith(".py"):
        raise UnreadableError(f"{name} is compiled")
    if not rest and spec.origin:
        return Path(spec.origin)
    places = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    if rest:  # an imported package may have been given more folders
        parent = sys.modules.get(".".join([top, *rest[:-1]]))
        places += [Path(folder, rest[-1]) for folder in getattr(parent, "__path__", ())]
    for place in places:
        if (place / "__init__.py").is_file():
            return place / "__init__.py"
        if rest and place.with_name(f"{place.name}.py").is_file():
            return place.with_name(f"{place.name}.py")
        if rest and any(place.with_name(f"{place.name}{suffix}").is_file() for suffix in EXTENSION_SUFFIXES):
            raise UnreadableError(f"{name} is compiled")
    return None


def _statements(body: Sequence[ast.stmt], *, is_alternative: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Every statement of a module outside of classes and functions, and whether it is in an else or except branch."""
    for statement in body:
        yield statement, is_alternative
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements(statement.body, is_alternative=is_alternative)
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.orelse, is_alternative=True)
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _statements(handler.body, is_alternative=True)


def _names(statement: ast.stmt, module: Module) -> dict[str, ast.AST | str]:
    """The names that a statement defines."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name: statement}
        case ast.Assign(targets=[*targets], value=value):
            return {target.id: value for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return {name: value}
        case ast.Import(names=aliases):
            return {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0] for a in aliases
            }
        case ast.ImportFrom(names=aliases):
            parents = module.package.split(".")
            kept = parents[: len(parents) - statement.level + 1] if statement.level else []
            source = ".".join([*kept, *([statement.module] if statement.module else [])])
            module.stars += [source for alias in aliases if alias.name == "*"]
            return {alias.asname or alias.name: f"{source}.{alias.name}" for alias in aliases if alias.name != "*"}
    return {}
