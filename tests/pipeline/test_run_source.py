"""What may be given as a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp import evaluate, mine, new_model, open_topics, re_rank, score
from irexp.evaluation.run_file import write_run
from irexp.model.model import Model
from irexp.types import ScoredDoc, UserError
from tests import tiny

RUN = [ScoredDoc("q1", "3", 2.0), ScoredDoc("q1", "2", 1.0), ScoredDoc("q2", "1", 1.0)]
TOPICS = open_topics({"q1": "list the cup", "q2": "a tree"}, {"q1": ["3"], "q2": ["0"]})
TEXTS = ["a tree", "delete a tree", "a cup and another cup", "list the cup"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny bi-encoder."""
    return new_model("sbert", backbone=str(tiny.bert(tmp_path_factory.mktemp("backbone"))))


def test_a_dictionary_of_scores_is_a_run_as_its_error_says() -> None:
    """Whole numbers are ids, too."""
    qrels, run = {"q1": ["3"], "q2": ["7"]}, {"q1": {3: 1.0, 2: 0.5}}
    with pytest.raises(UserError, match=re.escape("[(q, d, s) for q, found in run.items() for d, s in found.items()]")):
        evaluate(run, qrels)  # type: ignore[arg-type]
    lines: Any = [(q, d, s) for q, found in run.items() for d, s in found.items()]
    assert evaluate(lines, qrels, ["RR@10"]).per_query["RR@10"] == {"q1": 1.0, "q2": 0.0}


@pytest.mark.parametrize("line", [("q1", "Q0", "3", 1, 2.0, "bm25"), ("q1", "3", None), ("q1", "3"), "q12", 7, RUN])
def test_a_line_that_is_not_a_query_a_document_and_a_score_is_refused(line: Any) -> None:
    """The error shows it and its place."""
    with pytest.raises(UserError, match=r"run\[1\] is .*; a line of a run is \(query id, document id, score\)"):
        evaluate([("q1", "2", 1.0), line], {"q1": ["3"]})  # type: ignore[list-item]


def test_a_table_or_a_number_is_not_a_run() -> None:
    """The columns' names would be read as lines."""
    pandas: Any = pytest.importorskip("pandas")
    table = pandas.DataFrame({"query_id": ["q1"], "doc_id": [3], "score": [1]})
    with pytest.raises(UserError, match=re.escape("list(zip(run['query_id'], run['doc_id'], run['score']))")):
        evaluate(table, {"q1": ["3"]})
    run: Any = list(zip(table["query_id"], table["doc_id"], table["score"], strict=True))
    assert evaluate(run, {"q1": ["3"]}, ["RR@10"]).aggregated == {"RR@10": 1.0}
    with pytest.raises(UserError, match="not None"):
        evaluate(None, {"q1": ["3"]})  # type: ignore[arg-type]


def _mined(runs: Any) -> list[tuple[str, ...]]:
    examples = mine(TOPICS, runs)
    return [examples[number].doc_ids for number in range(len(examples))]


@pytest.mark.parametrize(
    "as_runs",
    [
        lambda run: [run],
        lambda run: (each for each in (run,)),
        lambda run: [(line for line in run)],
        lambda run: [[(line.query_id, int(line.doc_id), np.float32(line.score)) for line in run]],
    ],
)
def test_negatives_are_mined_from_any_lines(as_runs: Callable[[Iterable[ScoredDoc]], Any]) -> None:
    """Whole numbers are ids, and a generator is read once."""
    assert _mined(as_runs(RUN)) == [("3", "2"), ("0", "1")]


def test_a_score_that_is_nan_is_refused_everywhere(model: Model) -> None:
    """It has no rank: the order of the others would depend on where it is."""
    run = [*RUN, ScoredDoc("q1", "0", float("nan"))]
    for call in (
        lambda: _mined([run]),
        lambda: evaluate(run, TOPICS),
        lambda: re_rank(model, run, TOPICS, TEXTS, depth=1),
    ):
        with pytest.raises(UserError, match="NaN, which has no rank"):
            call()


def test_one_run_is_not_a_list_of_runs(tmp_path: Path, model: Model) -> None:
    """Each line, or each letter of a file's name, would be taken for a run."""
    path = tmp_path / "a.run"
    write_run(path, RUN, tag="a")
    assert _mined([path]) == _mined([str(path)]) == _mined([RUN])
    for runs in (path, str(path), {"a": RUN}, RUN, 7):
        with pytest.raises(UserError, match=r"for one run write runs=\[run\]"):
            _mined(runs)
        with pytest.raises(UserError, match=r"for one run write runs=\[run\]"):
            score(model, TOPICS, TEXTS, runs=runs)  # type: ignore[arg-type]


def test_an_unknown_document_of_a_run_is_named_without_settings_of_another_function(model: Model) -> None:
    """The function score has no setting re_rank.candidates."""
    with pytest.raises(UserError, match=r"such as 'zz'; check .* that the run is over these documents") as caught:
        score(model, TOPICS, TEXTS, runs=[[ScoredDoc("q1", "zz", 1.0)]])
    assert "re_rank" not in str(caught.value)


def test_a_run_is_evaluated_against_a_file_of_judgements(tmp_path: Path) -> None:
    """As against the same judgements in memory, for a path that is text or not."""
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq1\t3\t1\nq2\t0\t1\n")
    expected = evaluate(RUN, TOPICS, ["RR@10"]).per_query
    assert evaluate(RUN, path, ["RR@10"]).per_query == evaluate(RUN, str(path), ["RR@10"]).per_query == expected
