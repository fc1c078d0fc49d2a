"""Whatever is compared does the same work, in an environment that exists."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from irexp.peer.lines import Line
from irexp.peer.rounds import Contender, contenders, difference
from irexp.peer.workers import LIBRARIES, check_pythons
from irexp.types import UserError


def line(precision: str = "float32") -> Line:
    """A line of PyLate's."""
    return Line("colbert", "PyLate", [], precision)


def test_results_that_differ_are_refused_unless_their_precision_is_lower() -> None:
    """Times of another work say nothing; 0.1 beside a norm of 2 is usual in bfloat16."""
    expected, found = np.array([1.2, -1.6], np.float32), np.array([1.2, -1.5], np.float32)
    assert difference(line(), expected, expected) == 0.0
    assert difference(line("bfloat16"), found, expected) == pytest.approx(0.05)
    with pytest.raises(UserError, match=r"colbert: the results of PyLate differ from irexp's by 0\.05 of their norm"):
        difference(line(), found, expected)
    with pytest.raises(UserError, match="differ from irexp's by nan"):
        difference(line(), np.array([np.nan, 1.0], np.float32), expected)
    with pytest.raises(UserError, match="PyLate computes 1 values, irexp 2"):
        difference(line(), found[:1], expected)


def test_the_precision_of_a_line_is_that_of_its_task() -> None:
    """Of encoding or of re-ranking; a library computes in fp32."""
    chosen = {"precision": "int8"}
    found = [Contender("irexp, int8", settings={group: chosen}).precision for group in ("encoding", "re_rank")]
    assert found == ["int8", "int8"]
    assert Contender("PyLate").precision == "float32"


def test_a_library_without_an_environment_is_named_as_left_out() -> None:
    """A table that says nothing of it would look as if it had been measured."""
    own = [Contender("irexp"), Contender("irexp, small")]
    rows, left_out = contenders("encode", "colbert", own, {"pylate": "python", "sentence_transformers": None})
    assert [row.name for row in rows] == ["irexp", "PyLate", "irexp, small"]
    assert left_out == [
        "sentence-transformers, since stage.peers.python.sentence_transformers is not set",
        "Lightning IR, since stage.peers.python.lightning_ir is not set",
    ]
    assert contenders("re_rank", "mono", own, {"pylate": "python"})[0] == own  # PyLate has no cross-encoder


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (
            "nowhere/bin/python",
            "is not a program; give the interpreter of an environment with pylate",
        ),
        (str(Path(__file__).parent), "is not a program"),
        (sys.executable, "this environment lacks pylate; python -m venv FOLDER"),
    ],
)
def test_an_environment_that_cannot_work_is_refused(python: str, message: str) -> None:
    """Before anything is measured, and in one line."""
    with pytest.raises(UserError, match=message) as error:
        check_pythons({"sentence_transformers": None, "pylate": python})
    assert str(error.value).startswith("stage.peers.python.pylate=") and "\n" not in str(error.value)


def test_a_misspelt_library_is_refused() -> None:
    """It would otherwise be left out silently."""
    with pytest.raises(UserError, match=r"python\.pylat: there is no such library; did you mean pylate\?"):
        check_pythons({"pylat": None})


def test_the_options_name_the_libraries_there_are() -> None:
    """A library that conf/stage/peers.yaml forgets could not be measured."""
    from omegaconf import OmegaConf

    from irexp.config.installation import CONF

    assert set(OmegaConf.load(CONF / "stage" / "peers.yaml").python) == set(LIBRARIES)
