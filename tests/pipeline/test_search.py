"""What a search leaves out, and how many documents it returns."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from irexp import build_index, component, search
from irexp.config.schema import Machine
from irexp.dataset.in_memory import TextTopics
from irexp.pipeline.index import OpenIndex
from irexp.pipeline.re_rank import candidates_of, check_depth
from irexp.types import Query, ScoredDoc, UserError

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


def test_the_topics_decide_whether_a_query_finds_itself(index: OpenIndex, machine: Machine) -> None:
    """Unless the call does; the query's own document does not take a place from another."""
    for removed, given, found in ((True, None, "0"), (False, None, "2"), (True, False, "2"), (False, True, "0")):
        topics = TextTopics({"2": "another cup"}, {"2": ["0"]}, remove_query=removed)
        (line,) = search(index, topics, depth=1, remove_query=given, machine=machine)
        assert line.doc_id == found


def test_a_query_is_not_its_own_candidate_if_the_topics_leave_it_out() -> None:
    """Of a run that holds it, as many others are re-ranked."""
    run, query = [ScoredDoc("2", doc_id, -float(doc_id)) for doc_id in ("1", "2", "3")], Query("2", "another cup")
    assert candidates_of(run, [query], 2, remove_query=True) == [(query, ["1", "3"])]
    assert candidates_of(run, [query], 2) == [(query, ["1", "2"])]


@pytest.mark.parametrize("depth", [2.0, "2", 0, -1])
def test_a_depth_is_a_whole_number_above_zero(index: OpenIndex, machine: Machine, depth: Any) -> None:
    """Also of numpy."""
    with pytest.raises(UserError, match=rf"search\.depth={depth}: .* whole number"):
        search(index, ["cup"], depth=depth, machine=machine)
    assert len(search(index, ["cup"], depth=np.int64(1), machine=machine)) == 1  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"score\.depth={depth}: .* whole number"):
        check_depth(depth, "score.depth")
