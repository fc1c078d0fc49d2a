"""The signatures that are read from source equal those of the imported classes and functions."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Optional, Union

import peft
import pytest
import torch
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from peft.utils.peft_types import PeftType, TaskType

from irexp.config.annotation import Allowed, Annotation, Items, Word, allowed
from irexp.config.signature import signature_of
from irexp.config.source import Definition, UnreadableError, find
from irexp.config.target import target_of
from irexp.model.model import Model

ROOT = Path(__file__).parents[2]

TARGETS = sorted(
    {
        target
        for path in (ROOT / "conf").rglob("*.yaml")
        for target in re.findall(r"_target_: ([\w.]+)", path.read_text(encoding="utf8"))
        if not target.startswith("optuna.")  # an extra, of whose classes the sweeper's conf takes no setting from users
    }
)

#: Beyond the targets of conf/: every optimizer of torch, and classes with unusual constructors.
FURTHER = [
    *(f"torch.optim.{name}" for name, value in vars(torch.optim).items() if inspect.isclass(value)),
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "peft.PeftConfig",
    "peft.IA3Config",
    "irexp.types.Tokens",
    f"{__name__}.Child",
    f"{__name__}.Plain",
    f"{__name__}.every_kind",
]

#: Names that modules import for type checkers alone.
FOR_TYPES = {
    **{"LoraConfig": peft.LoraConfig, "TaskType": TaskType, "PeftType": PeftType, "Tensor": torch.Tensor},
    **{"Callable": Callable, "BaseSampler": BaseSampler, "BasePruner": BasePruner, "Model": Model},
}

Alias = Literal["x", "y"]


@dataclasses.dataclass
class Parent:
    """A dataclass with each kind of field."""

    first: int
    second: Alias | None = None
    third: list[int] = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(default=0, init=False)
    named: int = dataclasses.field(default=1, kw_only=True)
    shared: typing.ClassVar[int] = 3
    _: dataclasses.KW_ONLY
    last: bool


@dataclasses.dataclass(kw_only=True)
class Child(Parent):
    """One that redefines a field and adds one."""

    second: Optional[Alias] = None  # noqa: UP045 - as other packages write it
    added: Union[str, Sequence[str]]  # noqa: UP007


class Plain(Parent):
    """A class that inherits a generated constructor."""


def every_kind(a: int, /, b: "str | None" = None, *c: int, d: float, e: tuple[int, int] = (1, 2), **f: int) -> None:  # noqa: UP037
    """A function with every kind of parameter."""


def imported(target: str) -> Any:
    """The imported object of a dotted path."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def hinted(hint: object) -> Allowed | None:
    """What an evaluated annotation allows."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (int, float, str, bool, NoneType):
        return (hint,)
    if origin is Literal:
        return tuple(Word(value) for value in arguments)
    if origin in (Union, UnionType):
        parts = [hinted(argument) for argument in arguments]
        return None if None in parts else tuple(dict.fromkeys(each for part in parts for each in part or ()))
    if origin in (list, Sequence, Iterable, Collection):
        return (Items(hinted(arguments[0])),)
    return (Items(None),) if origin is tuple else None


def test_every_component_is_seen() -> None:
    """The comparisons below are over all of conf/, not over a pattern that silently matched less."""
    assert len(TARGETS) >= 70
    assert len(FURTHER) >= 20


@pytest.mark.parametrize("target", [*TARGETS, *FURTHER])
def test_parameters_equal_those_of_the_import(target: str) -> None:
    """With other names, order, kinds or defaults, a right key would be refused or a missing one accepted."""
    found = target_of(target)
    assert isinstance(found.found, Definition), "this had to be imported"
    assert [(p.name, p.kind, p.default is p.empty) for p in found.signature.parameters.values()] == [
        (p.name, p.kind, p.default is p.empty) for p in inspect.signature(imported(target)).parameters.values()
    ]
    assert found.is_class == inspect.isclass(imported(target))


def test_annotations_equal_those_of_the_import() -> None:
    """With another annotation, right values would be refused; covers all components and aliases of other modules."""
    compared = checked = 0
    for target in [*TARGETS, *FURTHER]:
        component = imported(target)
        is_plain_class = inspect.isclass(component) and not dataclasses.is_dataclass(component)
        hints = typing.get_type_hints(component.__init__ if is_plain_class else component, localns=FOR_TYPES)
        for parameter in target_of(target).signature.parameters.values():
            if isinstance(parameter.annotation, Annotation):
                found = allowed(parameter.annotation)
                expected = hinted(hints[parameter.name])
                # typing caches unions, so that an equal one may have another order
                assert set(found or ()) == set(expected or ()), f"{target}: {parameter.name}"
                assert (found is None) == (expected is None), f"{target}: {parameter.name}"
                compared += 1
                checked += found is not None
    assert compared >= 500
    assert checked >= 300


def test_nothing_heavy_is_imported_to_check_a_component() -> None:
    """Checking the components of conf/ imports none of their packages, which would take seconds."""
    code = (
        "import sys; from irexp.config.target import ROLES, fills, target_of\n"
        "roles = [role for roles in ROLES.values() for role in roles]\n"
        "filled = [any([fills(target_of(target), role) for role in roles]) for target in sys.argv[1:]]\n"
        "heavy = {'torch', 'lightning', 'transformers', 'peft', 'faiss', 'numpy'}\n"
        "print(sum(filled), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *TARGETS], cwd=ROOT, capture_output=True, text=True, check=True)
    within = [target for target in TARGETS if target.endswith("Search")]  # checked by their index's annotation
    assert done.stdout == f"{len(TARGETS) - len(within)} []\n"
    assert len(within) >= 9


@pytest.mark.parametrize("name", ["decorated", "Made", "Decorated", "value"])
def test_a_signature_that_is_made_at_run_time_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A decorator or `__new__` may change a signature, so that the source alone would give a wrong one."""
    module = f"module_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(
        "import functools\n"
        "def add(wrapped): return lambda extra, more=1: wrapped\n"
        "@add\ndef decorated(a): ...\n"
        "class Made:\n"
        "    def __new__(cls, extra, more=1): return super().__new__(cls)\n"
        "    def __init__(self, *a): ...\n"
        "@add\nclass Decorated:\n    def __init__(self, a): ...\n"
        "value = add(len)\n",
        encoding="utf8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    definition = find(f"{module}.{name}")
    assert definition is not None
    with pytest.raises(UnreadableError):
        signature_of(definition)
    assert list(target_of(f"{module}.{name}").signature.parameters) == ["extra", "more"]
