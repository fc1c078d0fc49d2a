"""The names of measures."""

# mypy: untyped_calls_exclude=ir_measures

import subprocess
import sys

import ir_measures
import pytest

from irexp.config.measure import ENGINE, parse_measure, parse_measures
from irexp.types import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ndcg@10", r"did you mean nDCG@10\?"),
        ("nDGC@10", r"did you mean nDCG@10\?"),
        ("recall_100", r"did you mean R@100\?"),
        ("nonsense", r"examples: nDCG@10"),
        ("", r"examples: nDCG@10"),
        ("nDCG@ten", "not of the form"),
        ("nDCG@10)", "not of the form"),
        ("nDCG@0", "at least 1"),
        ("R", "R has: cutoff.*; a cutoff is written R@10"),
        ("SetF(beta=2)", r"a parameter of 'SetF\(beta=2\)' is wrong .*; with a decimal point: beta=2\.0"),
        ("AP(foo=1)", "AP has: cutoff"),
        ("ERR@10", "none of the engines"),
    ],
)
def test_a_bad_name_is_explained(name: str, expected: str) -> None:
    """An unknown or wrong name is refused with the nearest one, the parameters or examples."""
    with pytest.raises(UserError, match=expected):
        parse_measures(["AP@3", name])


def test_an_object_in_place_of_a_name_is_refused() -> None:
    """A measure of ir_measures has a name to write; of another object only examples are shown."""
    with pytest.raises(UserError, match=r"given by its name, such as nDCG@10, .* such as RR@10; write 'RR@10'"):
        parse_measures(["AP", ir_measures.RR @ 10])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"not by an object such as 10$"):
        parse_measures([10])  # type: ignore[list-item]


def test_measures_must_be_a_list_without_repetition() -> None:
    """An empty list, a bare name and two names of one measure are refused."""
    for names in ("", "AP"):
        with pytest.raises(UserError, match="must be a list"):
            parse_measures(names)
    with pytest.raises(UserError, match="must be a list"):
        parse_measures([])
    with pytest.raises(UserError, match="'RR@10' and 'MRR@10' are the same"):
        parse_measures(["RR@10", "AP", "MRR@10"])


@pytest.mark.parametrize(
    "name", ["nDCG@10", "RR(rel=2)@10", "AP", "R@100", "Judged@5", "NumRelRet", "P@5", "Success@1"]
)
def test_an_accepted_measure_is_supported_by_the_loaded_engines(name: str) -> None:
    """`parse_measure` asks the engines without loading them, and must give their answer."""
    assert ENGINE.supports(parse_measure(name))


def test_a_name_is_checked_without_numpy() -> None:
    """Importing numpy would delay the check of each command line."""
    code = (
        "import sys; from irexp.config.measure import parse_measure; "
        "parse_measure('nDCG@10'); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
