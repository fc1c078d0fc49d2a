"""A run as training data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.in_memory import TextTopics
from irexp.dataset.irds import IrdsScoredDocs, IrdsTopics
from irexp.dataset.run_examples import LocalRun, RunExamples
from tests.irds import registered
from tests.text_files import write

RUN = "1 Q0 a 1 9.5 x\n2 Q0 d 1 4 x\n1 Q0 b 2 7.5 x\n1 Q0 c 3 7.25 x\n2 Q0 e 2 3 x\n"

#: Document z is relevant and missed by the run.
TOPICS = TextTopics({"1": "one", "2": "two"}, {"1": {"c": 1, "z": 3}, "2": {"e": 0}})


@pytest.fixture
def run(tmp_path: Path) -> LocalRun:
    """Three documents of query 1 and two of query 2, whose lines are mixed."""
    write(tmp_path / "a.run.gz", RUN)
    return LocalRun(str(tmp_path / "a.run"))


@pytest.mark.parametrize(("targets", "expected"), [("rank", (-1.0, -2.0, -3.0)), ("score", (9.5, 7.5, 7.25))])
def test_ranks_or_scores_become_targets(
    run: LocalRun, targets: Literal["rank", "score"], expected: tuple[float, ...]
) -> None:
    """The best document has the largest target; which is relevant is not said."""
    examples = RunExamples(run, TOPICS, targets=targets)
    assert (examples[0].doc_ids, examples[0].targets) == (("a", "b", "c"), expected)
    assert (examples.has_scores, examples.is_positive_first, len(examples)) == (True, False, 2)


def test_judgements_become_graded_targets_with_what_the_run_missed(
    run: LocalRun, caplog: pytest.LogCaptureFixture
) -> None:
    """The best grade is first, then the run's order, by which negatives are skipped and drawn."""
    examples = RunExamples(run, TOPICS, targets="relevance")
    assert (examples[0].doc_ids, examples[0].targets) == (("z", "a", "b", "c"), (3.0, 0.0, 0.0, 1.0))
    assert (examples.has_scores, examples.is_positive_first, len(examples)) == (False, True, 1)
    assert "1 queries" in caplog.text and "no relevant document" in caplog.text


def test_a_depth_cuts_the_lists(run: LocalRun) -> None:
    """To the best documents; a list of one is no list."""
    assert RunExamples(run, TOPICS, depth=2)[0].doc_ids == ("a", "b")
    added = RunExamples(run, TOPICS, depth=2, targets="relevance")[0]  # the relevant ones that are missing
    assert added.doc_ids == ("z", "a", "b", "c")
    with pytest.raises(DataError, match=r"dataset.train.depth=1: a list needs at least 2"):
        RunExamples(run, TOPICS, depth=1)


@pytest.mark.parametrize("targets", ["rank", "score", "relevance"])
def test_the_document_with_the_querys_own_id_is_left_out_where_results_lack_it(
    tmp_path: Path, targets: Literal["rank", "score", "relevance"]
) -> None:
    """As in Quora and ArguAna, where it would be the best one, before the depth is cut."""
    run = LocalRun(write(tmp_path / "a.run", "1 Q0 1 1 9 x\n1 Q0 d2 2 8 x\n1 Q0 d3 3 7 x\n1 Q0 d4 4 6 x\n"))
    for remove_query, expected in ((True, ("d2", "d3")), (False, ("1", "d2"))):
        topics = TextTopics({"1": "one"}, {"1": {"1": 2, "d2": 1}}, remove_query=remove_query)
        assert RunExamples(run, topics, targets=targets, depth=2)[0].doc_ids == expected


def test_scores_that_are_all_equal_are_an_error(tmp_path: Path) -> None:
    """As in MS MARCO's scoreddocs, which have none."""
    run = LocalRun(write(tmp_path / "a.run", "1 Q0 a 1 0 x\n1 Q0 b 2 0 x\n"))
    with pytest.raises(DataError, match=r"a\.run: no query has two documents with different targets"):
        len(RunExamples(run, TOPICS, targets="score"))


def test_a_score_without_bounds_is_named(tmp_path: Path) -> None:
    """It has a rank, and teaches nothing as a score."""
    run = LocalRun(write(tmp_path / "a.run", "1 Q0 a 1 inf x\n1 Q0 b 2 0 x\n"))
    assert RunExamples(run, TOPICS)[0].doc_ids == ("a", "b")
    with pytest.raises(DataError, match=r"a\.run, query 1: a score is not finite"):
        len(RunExamples(run, TOPICS, targets="score"))


def test_a_query_that_has_no_text_is_named(run: LocalRun) -> None:
    """A run of other queries must not become an empty training set."""
    with pytest.raises(DataError, match=r"a\.run, query 2: the query '2' is not among the training queries"):
        len(RunExamples(run, TextTopics({"1": "one"})))


def test_the_documents_that_a_collection_ships_are_training_data(tmp_path: Path) -> None:
    """The scoreddocs of a collection of ir_datasets, with its judgements as targets."""
    scored = "q1 0 d1 1 5.0 x\nq1 0 d2 2 4.0 x\n"
    with registered(tmp_path, "d1\tone\nd2\ttwo\n", scoreddocs=scored) as name:
        examples = RunExamples(IrdsScoredDocs(name), IrdsTopics(name), targets="relevance")
        assert (examples[0].doc_ids, examples[0].targets) == (("d2", "d1"), (1.0, 0.0))
