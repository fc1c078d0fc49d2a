"""What a search leaves out, and how many documents it returns."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from irexp import build_index, component, search
from irexp.config.schema import Machine
from irexp.pipeline.index import OpenIndex
from irexp.types import UserError

TEXTS = ["list the cup", "delete a tree", "a cup and another cup", "a tree"]


@pytest.fixture(scope="module")
def machine() -> Machine:
    """One thread, without progress bars."""
    found: Machine = component("machine", "cpu", threads=1, progress=False)
    return found


@pytest.fixture(scope="module")
def index(machine: Machine) -> OpenIndex:
    """BM25 over four documents, two of which have the word cup."""
    return build_index(TEXTS, machine=machine)


@pytest.mark.parametrize("excluded", [{"2"}, ["2"], (each for each in ("2",)), [2], np.array(["2"]), np.array([2])])
def test_excluded_documents_are_left_out_whatever_holds_their_ids(
    index: OpenIndex, machine: Machine, excluded: Any
) -> None:
    """For each of several batches of queries; whole numbers are ids, too."""
    small = component("machine", "cpu", threads=1, progress=False, query_batch=1)
    found = search(index, ["cup", "cup"], excluded=excluded, machine=small)
    assert [(line.query_id, line.doc_id) for line in found] == [("0", "0"), ("1", "0")]


def test_one_string_is_not_ids(index: OpenIndex, machine: Machine) -> None:
    """Otherwise "12" would exclude the documents 1, 2 and 12."""
    with pytest.raises(UserError, match="excluded='12' is one string"):
        search(index, ["cup"], excluded="12", machine=machine)


def test_ids_that_exclude_nothing_are_named(
    index: OpenIndex, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """As from stage=search."""
    with caplog.at_level(logging.WARNING):
        search(index, ["cup"], excluded=["2", "d2"], machine=machine)
    assert "1 of the 2 ids in excluded are not in the index, such as 'd2'" in caplog.text
