"""The values that an annotation allows in a configuration, read from source: simple types, literals, lists of them."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection
from dataclasses import dataclass
from types import NoneType
from typing import Any

from irexp.config.packages import is_in
from irexp.config.source import Module, UnreadableError, find, qualify

_SIMPLE: dict[str | None, type] = {f"builtins.{kind.__name__}": kind for kind in (int, float, str, bool)}

_LISTS = {"builtins.list", "typing.List"} | {
    f"{module}.{name}" for module in ("typing", "collections.abc") for name in ("Sequence", "Iterable", "Collection")
}

_TUPLES = {"builtins.tuple", "typing.Tuple"}


@dataclass(frozen=True)
class Annotation:
    """An annotation, and the module that defines its names."""

    node: ast.AST
    module: Module


@dataclass(frozen=True)
class Word:
    """One value of a Literal."""

    value: Any


@dataclass(frozen=True)
class Items:
    """A list whose items are of the allowed kinds; None: any items."""

    allowed: Allowed | None


#: The kinds of values that are allowed: types, literals and lists.
Allowed = tuple["type | Word | Items", ...]


def allowed(annotation: Annotation) -> Allowed | None:
    """The kinds of values that an annotation allows; None if it allows more than these, and nothing is checked."""
    try:
        return _allowed(annotation.node, annotation.module)
    except UnreadableError:
        return None


def _allowed(node: ast.AST, module: Module) -> Allowed | None:
    match node:
        case ast.Constant(value=None):
            return (NoneType,)
        case ast.Constant(value=str() as text):
            return _allowed(ast.parse(text, mode="eval").body, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right], module)
        case ast.Subscript(value=value, slice=inner):
            return _subscribed(qualify(value, module), inner.elts if isinstance(inner, ast.Tuple) else [inner], module)
    path = qualify(node, module)
    if path in _SIMPLE:
        return (_SIMPLE[path],)
    if path in _LISTS | _TUPLES:
        return (Items(None),)
    alias = find(path) if path and not path.startswith("builtins.") else None
    return _allowed(alias.node, alias.module) if alias and isinstance(alias.node, ast.expr) else None


def _subscribed(path: str | None, arguments: list[ast.expr], module: Module) -> Allowed | None:
    if path == "typing.Literal":
        words = [
            (Word(each.value),) if isinstance(each, ast.Constant) else _allowed(each, module) for each in arguments
        ]
        return tuple(word for found in words for word in found or ()) if all(words) else None
    if path in ("typing.Union", "typing.Optional"):
        return _union([*arguments, *[ast.Constant(None)] * (path == "typing.Optional")], module)
    if path in _LISTS:
        return (Items(_allowed(arguments[0], module)),)
    return (Items(None),) if path in _TUPLES else None


def _union(parts: list[ast.expr], module: Module) -> Allowed | None:
    found = [_allowed(part, module) for part in parts]
    return None if None in found else tuple(dict.fromkeys(each for part in found for each in part or ()))


def classes(annotation: Annotation, packages: Collection[str]) -> list[str]:
    """The classes of some packages that an annotation names, as in `X | None`, `partial[X]`, `Callable[..., X]`."""
    node = annotation.node
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    paths = [qualify(each, annotation.module) for each in ast.walk(node)]
    found = [_class(path) for path in paths if path and is_in(path, packages)]
    return [path for path in found if path]


def _class(path: str) -> str | None:
    try:
        definition = find(path)
    except UnreadableError:
        return None
    return definition.path if definition and isinstance(definition.node, ast.ClassDef) else None


def fits(value: Any, allowed: Allowed) -> bool:
    """Whether a plain value is allowed; an int counts as a float, a bool as neither."""
    if isinstance(value, list):
        lists = [each for each in allowed if isinstance(each, Items)]
        return any(each.allowed is None or all(fits(item, each.allowed) for item in value) for each in lists)
    if any(isinstance(each, Word) and repr(each.value) == repr(value) for each in allowed):
        return True
    return type(value) in allowed or (type(value) is int and float in allowed)


def spell(allowed: Allowed) -> str:
    """What is allowed, in words.

    >>> spell((int, NoneType))
    'int or null'
    >>> spell((Word("a"), Word("b"), Items((Word("a"), Word("b")))))
    "one of 'a', 'b', a list of them"
    """
    single = tuple(each for each in allowed if not isinstance(each, Items))
    names = [_spell(each) for each in single]
    for each in allowed:
        if isinstance(each, Items):
            of = " of them" if each.allowed == single else f" of {spell(each.allowed)}" if each.allowed else ""
            names.append(f"a list{of}")
    return " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"


def _spell(each: type | Word) -> str:
    value = each.value if isinstance(each, Word) else each
    return "null" if value in (None, NoneType) else value.__name__ if isinstance(value, type) else repr(value)


def nearest_word(value: Any, allowed: Allowed) -> str:
    """The end of an error message: the literal that was probably meant."""
    words = [str(each.value) for each in allowed if isinstance(each, Word)]
    matches = difflib.get_close_matches(str(value), words, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
