"""Every number in the settings of an engine has a smallest value, and a smaller one is refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from omegaconf import OmegaConf

from irexp import component
from irexp.config.installation import CONF
from irexp.index.ranges import check_fractions, check_least
from irexp.types import UserError

#: A weight may have any sign, and so may the score of a centroid.
ANY = {"threshold", "search.threshold"}


def numbers(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of the settings of a node that are numbers, or may be."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}.")
        elif key not in ("_target_", "uri", "partition") and (value is None or type(value) in (int, float)):
            yield f"{prefix}{key}"


def settings() -> Iterator[tuple[str, str]]:
    """Each option of conf/index with each of its numbers."""
    for path in sorted((CONF / "index").glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        assert isinstance(node, dict)
        yield from ((path.stem, name) for name in numbers({str(k): v for k, v in node.items()}) if name not in ANY)


@pytest.mark.parametrize(("option", "name"), list(settings()))
def test_a_negative_number_is_refused_by_name(option: str, name: str) -> None:
    """Before, `index.terms=0` made an index that finds nothing."""
    given: dict[str, Any] = {"factory": "Flat"} if option == "faiss" else {}
    *path, last = name.split(".")
    node = given
    for part in path:
        node = node.setdefault(part, {})
    node[last] = -1
    with pytest.raises(UserError, match=last):
        component("index", option, **given)


def test_a_number_that_is_none_is_refused_and_a_missing_one_is_not() -> None:
    """NaN compares with nothing."""
    check_least(1, {"terms": None, "search.terms": 1})
    check_fractions({"summary_energy": 1.0})
    for value in (0.5, math.nan):
        with pytest.raises(UserError, match=r"^index\.search\.terms=(0\.5|nan): it must be at least 1$"):
            check_least(1, {"terms": 1, "search.terms": value})
    for value in (0.0, 1.1, math.nan):
        with pytest.raises(UserError, match=r"^index\.summary_energy=.*: it must be above 0 and at most 1$"):
            check_fractions({"summary_energy": value})
