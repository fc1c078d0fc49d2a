"""A composed configuration against records and signatures."""

from typing import Literal

import pytest
from omegaconf import OmegaConf

from irexp.config.check import near
from irexp.config.component import component_faults


class Component:
    """A component with a constructor as ours have it."""

    def __init__(
        self, size: int, *, kind: Literal["a", "b"] = "a", rate: float | None = None, other: object = None
    ) -> None:
        """Keep nothing."""


def _faults(**node: object) -> list[str]:
    return component_faults(OmegaConf.create({"part": {"_target_": f"{__name__}.Component", **node}}))


@pytest.fixture(autouse=True)
def _allow_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irexp.config.component.ALLOWED_PACKAGES", ("irexp", __name__.partition(".")[0]))
    monkeypatch.setattr("irexp.config.component.find", lambda _: Component)


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        ({"size": 1}, None),
        ({"size": 1, "kind": "b", "rate": 1, "other": [1]}, None),
        ({"size": 1, "rate": None}, None),
        ({"_partial_": True}, None),
        ({}, "Component needs it"),
        ({"size": 1, "sise": 2}, "has no 'sise'; did you mean size?"),
        ({"size": "x"}, "part.size: 'x' is not int"),
        ({"size": True}, "part.size: True is not int"),
        ({"size": 1, "kind": "c"}, "is not 'a' or 'b'"),
        ({"size": 1, "rate": "fast"}, "is not float or null"),
    ],
)
def test_a_component_is_bound_to_its_constructor(node: dict[str, object], fault: str | None) -> None:
    """A misspelt key, a missing argument and a value of the wrong type are faults; what fits is none."""
    faults = _faults(**node)
    assert (faults == []) if fault is None else (len(faults) == 1 and fault in faults[0])


def test_components_within_components_are_bound() -> None:
    """A fault deep inside is named with its whole path."""
    inner = {"_target_": "irexp.x", "size": 1, "sise": 1}
    assert _faults(size=1, other=[inner])[0].startswith("part.other[0].sise:")


def test_the_nearest_spelling_or_the_choices() -> None:
    """A near miss names its neighbour, a far one what there is."""
    assert near("colbrt", ["colbert", "splade"]) == "; did you mean colbert?"
    assert near("xyz", ["colbert", "splade"]) == "; there are colbert, splade"
