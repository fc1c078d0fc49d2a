"""The values that jobs get from overrides."""

from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from irexp.config.composition import composed_config
from irexp.config.override import as_typed, combinations, parse, values
from tests.config.test_hydra_node import CONF


def parsed(argument: str) -> tuple[list[Any], list[str]]:
    """The values of an argument, and what is wrong with it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides, faults = parse([argument], GlobalHydra.instance().config_loader())
        return [value for override in overrides for value in values(override)], faults


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("seed=3", [3]),
        ("seed=1,2", [1, 2]),
        ("a='x y',\"z\"", ["x y", "z"]),
        ("a=[1,2],[3]", [[1, 2], [3]]),
        ("a=null,1", [None, 1]),
        ("a=range(3,10,2)", [3, 9]),
        ("a=shuffle(range(1,4))", [1, 3]),
        ("a=range(1.0,2.0,0.5)", [1.0, 1.5]),
        ("a=interval(1e-5,1e-3)", [1e-5, 1e-3]),
        ("a=int(interval(1,9))", [1, 9]),
        ("a=tag(x,choice(1,2))", [1, 2]),
        ("a=sort(3,1,2)", [1, 2, 3]),
        ("a=str(choice(1,2))", [1, 2]),
        ("model=glob(bm*)", ["bm25"]),
        ("loss=glob([info*,lce],exclude=*dot)", ["info_nce", "lce"]),
        ("~seed", [None]),
    ],
)
def test_values_of_each_kind_of_sweep(argument: str, expected: list[Any]) -> None:
    """A choice gives all its values, a range or interval its two ends; values that are left out are not checked."""
    assert parsed(argument) == (expected, [])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model=glob(zz*)", "this chooses no value"),
        ("training.steps=glob(*)", "this chooses no value"),
        ("seed=range(3,1)", "this chooses no value"),
        ("seed=range(1,3,0)", "must not be zero"),
        ("a=RR(rel=2)@10", "quote a value with brackets"),
        ("model.name=模型", "letters beyond ASCII"),
    ],
)
def test_an_argument_without_a_value_is_a_fault(argument: str, words: str) -> None:
    """The fault is one line that begins with the argument; a sweep over nothing would silently run nothing."""
    found, (fault,) = parsed(argument)
    assert found == []
    assert fault.startswith(f"{argument}: ")
    assert words in fault


def test_every_choice_is_in_some_combination() -> None:
    """A large sweep is checked by some combinations only, and no choice may be missing from them."""
    groups = [[f"{group}={number}" for number in range(12)] for group in "abcd"]
    found = combinations(groups)
    assert {choice for combination in found for choice in combination} == {c for group in groups for c in group}
    assert len(found) == len(set(found)) < 100
    assert combinations([]) == [()]
    assert len(combinations([groups[0][:4], groups[1][:4]])) == 16


@pytest.mark.parametrize(
    "value",
    [
        "läufe/bm25.run",
        'a "b" [c],d=e',
        "C:\\runs\\",
        'end\\"',
        "null",
        "1",
        1,
        0.5,
        True,
        None,
        ["model=bm25", ["a b"]],
    ],
)
def test_a_value_is_typed_as_it_is_read(value: object) -> None:
    """A plan types settings of one experiment for another; letters beyond ASCII and quotes must come through."""
    config, _ = composed_config([f"negatives.candidates={as_typed(value)}"])
    read = config.negatives.candidates
    assert (OmegaConf.to_container(read) if isinstance(value, list) else read) == value
