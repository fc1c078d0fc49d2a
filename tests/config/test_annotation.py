"""The values that an annotation allows."""

import ast
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import pytest

from irexp.config.annotation import Allowed, Annotation, Items, Word, allowed, classes, fits, nearest_word
from irexp.config.source import Module

Choice = Literal["a", 2]


@pytest.mark.parametrize(
    ("kinds", "good", "bad"),
    [
        ((int,), [1, -1], [1.0, True, "1", None, [1]]),
        ((float,), [1.0, 1], [True, "1.0", None]),
        ((bool,), [True], [1, "true"]),
        ((str, NoneType), ["", None], [1, ["a"]]),
        ((Word(1), Word("a")), [1, "a"], [True, 1.0, "1", "b", None]),
        ((Items(None),), [[], [1, "a"]], [1, "a", {}]),
        ((int, Items((int,))), [1, [1, 2]], ["a", [1, "a"], [[1]]]),
        ((Items((Items((int,)),)),), [[[1], []]], [[1]]),
    ],
)
def test_fits_accepts_exactly_the_allowed_values(kinds: Allowed, good: list[Any], bad: list[Any]) -> None:
    """An int counts as a float, but a bool as neither, although Python compares 1 and True as equal."""
    assert [value for value in good if not fits(value, kinds)] == []
    assert [value for value in bad if fits(value, kinds)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int | None", (int, NoneType)),
        ("'int | None'", (int, NoneType)),
        ("Choice", (Word("a"), Word(2))),
        ("Literal[Choice, 'b', -1]", None),
        ("Literal[Choice, 'b']", (Word("a"), Word(2), Word("b"))),
        ("Optional[Choice]", (Word("a"), Word(2), NoneType)),
        ("Sequence[Choice] | Choice", (Items((Word("a"), Word(2))), Word("a"), Word(2))),
        ("list", (Items(None),)),
        ("tuple[int, str]", (Items(None),)),
        ("dict[str, int]", None),
        ("int | Path", None),
        ("Unknown", None),
    ],
)
def test_allowed_reads_the_kinds_of_an_annotation(text: str, expected: Allowed | None) -> None:
    """Aliases are followed; an annotation that allows more than plain values is None, so that no value is refused."""
    names: dict[str, ast.AST | str] = {
        "Literal": "typing.Literal",
        "Optional": "typing.Optional",
        "Sequence": "collections.abc.Sequence",
        "Path": "pathlib.Path",
        "Choice": f"{__name__}.Choice",
    }
    module = Module("any", "", Path("any.py"), names)
    assert allowed(Annotation(ast.parse(text, mode="eval").body, module)) == expected


def test_classes_finds_the_classes_of_the_given_packages() -> None:
    """A class is found at any depth of an annotation; else a component would be refused in its own place."""
    names: dict[str, ast.AST | str] = {"partial": "functools.partial", "Loss": "irexp.loss.loss.Loss"}
    module = Module("any", "", Path("any.py"), names)
    for text in ("Loss", "partial[Loss]", "'Loss | None'", "dict[str, list[Loss]]"):
        node = ast.parse(text, mode="eval").body
        assert classes(Annotation(node, module), ["irexp"]) == ["irexp.loss.loss.Loss"]
        assert classes(Annotation(node, module), ["torch"]) == []


def test_nearest_word_suggests_the_nearest_literal() -> None:
    """A misspelt literal gets a suggestion, and a type without literals none."""
    assert nearest_word("lexicl", (Word("lexical"), Word("mlm"))) == "; did you mean lexical?"
    assert nearest_word("x", (int,)) == ""
