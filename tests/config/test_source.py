"""Definitions that are found in source equal those that importing would give."""

import ast
import sys
from importlib import import_module
from pathlib import Path

import pytest

from irexp.config.source import UnreadableError, ancestry, find, read

FILES = {
    "__init__.py": "from .one import First as First, function\nfrom .two import *\nfrom . import three\n",
    "one.py": """
        from __future__ import annotations
        import abc
        from typing import TYPE_CHECKING, Generic, TypeVar
        import {package}.three as renamed
        if TYPE_CHECKING:
            from .three import Base as Shown
        else:
            Shown = object
        try:
            from .three import Fast
        except ImportError:
            Fast = None
        T = TypeVar("T")
        class First(renamed.Base, Generic[T], abc.ABC):
            class Inner: ...
        def function(a): ...
        def function(a, b): ...
        made = type("made", (), {{}})
    """,
    "two.py": "from .three import *\nfrom . import *\nclass Star: ...\n",
    "three.py": """
        class Base: ...
        class Left(Base): ...
        class Right(Base): ...
        class Both(Left, Right): ...
        class Fast: ...
    """,
    "lazy.py": "def __getattr__(name): return int\n",
    "deep/__init__.py": "",
    "deep/er.py": """
        from ..three import Both
        from .. import one
        class Last(Both): ...
        class Wide(one.First, Both): ...
    """,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with every kind of import between a name and its definition."""
    name = f"package_{tmp_path.name}"
    for file, text in FILES.items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.format(package=name).splitlines()
        path.write_text("\n".join(line.removeprefix("        ") for line in lines) + "\n", encoding="utf8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("First", "one.First"),
        ("function", "one.function"),
        ("Star", "two.Star"),
        ("Base", "three.Base"),
        ("one.Shown", "three.Base"),
        ("one.Fast", "three.Fast"),
        ("deep.er.Both", "three.Both"),
        ("deep.er.Last", "deep.er.Last"),
    ],
)
def test_a_name_is_followed_to_its_definition(package: str, path: str, place: str) -> None:
    """Renamed, relative, conditional and star imports are followed without importing anything."""
    found = find(f"{package}.{path}")
    assert found is not None
    assert found.path == f"{package}.{place}"
    assert not any(name.partition(".")[0] == package for name in sys.modules)


def test_the_last_definition_counts(package: str) -> None:
    """Python keeps the last definition of a name, and so must the reader."""
    found = find(f"{package}.function")
    assert found is not None
    assert isinstance(found.node, ast.FunctionDef)
    assert [argument.arg for argument in found.node.args.args] == ["a", "b"]


@pytest.mark.parametrize("path", ["Nothing", "one.Nothing", "one.First.Inner", "nowhere.First", "three.abc"])
def test_a_missing_name_is_not_found(package: str, path: str) -> None:
    """The search ends even if modules star-import each other in a circle."""
    assert find(f"{package}.{path}") is None


@pytest.mark.parametrize("path", ["{}.lazy.anything", "math.sqrt", "torch._C.Generator"])
def test_a_name_that_the_source_does_not_show_is_an_error(package: str, path: str) -> None:
    """A name created at run time, or in a module without source, must be imported, not reported as missing."""
    with pytest.raises(UnreadableError):
        find(path.format(package))


@pytest.mark.parametrize("path", ["First", "three.Both", "deep.er.Last", "deep.er.Wide"])
def test_the_bases_come_in_pythons_order(package: str, path: str) -> None:
    """A base that two classes share comes after both; else the wrong constructor would be read."""
    found = find(f"{package}.{path}")
    assert found is not None
    order = [ancestor.path for ancestor in ancestry(found)]
    module, _, name = f"{package}.{path}".rpartition(".")
    imported = getattr(import_module(module), name).__mro__
    assert order == [f"{c.__module__}.{c.__name__}" for c in imported if c.__module__.startswith(package)]


def test_a_nested_package_is_found_without_importing_it(package: str) -> None:
    """Its modules are found by their folder, with the package that relative imports start from."""
    module = read(f"{package}.deep.er")
    assert module is not None
    assert module.package == f"{package}.deep"
    assert read(f"{package}.deep.err") is None
    assert read("there_is_no_such_package.x") is None
