"""Evaluation conventions of collections: the smallest relevant grade, and removing the query from its own results."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Identity
from irexp.artifact.plan import draft_plan
from irexp.config.schema import Evaluation
from irexp.dataset.collection import DataError
from irexp.dataset.local import LocalTopics
from irexp.dataset.sources import open_topics
from irexp.evaluation.measures import load_measured
from irexp.stage.evaluate import evaluate
from irexp.types import Qrel
from tests.chains import Compose


@pytest.mark.parametrize(
    ("dataset", "relevance", "remove_query"),
    [
        ("trec_dl_2019", 2, None),
        ("trec_dl_2020", 2, None),
        ("msmarco_passage", None, None),
        ("beir_arguana", None, True),
        ("beir_quora", None, True),
        ("beir_scifact", None, None),
        ("nano_beir_arguana", None, None),
    ],
)
def test_collections_set_their_conventions(
    compose: Compose, dataset: str, relevance: int | None, remove_query: bool | None
) -> None:
    """TREC Deep Learning counts grades from 2; in BEIR's ArguAna and Quora a query is not its own result."""
    test = compose(f"dataset={dataset}").dataset.test
    assert (test.relevance, test.remove_query) == (relevance, remove_query)


@pytest.mark.parametrize("setting", ["dataset.test.relevance=2", "dataset.test.remove_query=true"])
@pytest.mark.parametrize("line", ["", "model=mono negatives=none", "model=fusion"])
def test_a_convention_changes_the_identity_of_the_measures_and_not_of_the_run(
    compose: Compose, setting: str, line: str
) -> None:
    """A convention affects evaluation only; an unset one leaves all identities as they were."""

    def names(*convention: str) -> dict[str, str]:
        overrides = ("dataset=irds", "dataset.id=beir/arguana", *shlex.split(line), *convention)
        plan, _ = draft_plan(Experiment(overrides, compose(*overrides)), ["search", "re_rank", "fuse", "evaluate"])
        return {step.artifact.kind: step.name for step in plan.goals if isinstance(step.artifact, Identity)}

    plain, unset, stated = names(), names(f"{setting.partition('=')[0]}=null"), names(setting)
    assert plain.keys() == {"run", "measures"}
    assert plain == unset
    assert plain["run"] == stated["run"]
    assert plain["measures"] != stated["measures"]


def test_the_stage_measures_by_the_convention(tmp_path: Path) -> None:
    """The stage applies both conventions to a given run: it drops the query's own result and raises the grade."""
    (tmp_path / "q.tsv").write_text("q\tone\n")
    (tmp_path / "qrels.tsv").write_text("q\td1\t1\nq\td2\t2\n")
    (tmp_path / "a.run").write_text("q Q0 q 1 3.0 t\nq Q0 d1 2 2.0 t\nq Q0 d2 3 1.0 t\n")
    evaluation = Evaluation(["RR@10", "RR(rel=2)@10"], "t", 100, "holm", 0.05)
    found = {}
    for relevance, remove_query in [(None, None), (None, True), (2, None), (2, True)]:
        topics = LocalTopics(
            str(tmp_path / "q.tsv"),
            qrels_path=str(tmp_path / "qrels.tsv"),
            relevance=relevance,
            remove_query=remove_query,
        )
        measures = evaluate(tmp_path, tmp_path / "a.run", topics=topics, evaluation=evaluation)
        found[relevance, remove_query] = tuple(round(6 * value) for value in measures.values())
        assert load_measured(tmp_path).relevance == relevance
    assert found == {(None, None): (3, 2), (None, True): (6, 3), (2, None): (2, 2), (2, True): (3, 3)}


def test_judgements_of_a_program_are_whole_numbers_of_any_kind() -> None:
    """As a data frame has them; a fraction would be cut to 0, and a word is not a grade."""
    given: Any = [(1, 7, np.int64(2)), ("1", "8", 1.0)]
    topics = open_topics({"1": "one"}, given)
    assert [*topics.qrels()] == [Qrel("1", "7", 2), Qrel("1", "8", 1)]
    bad: Any = ({"1": {"7": 0.5}}, [("1", "7", "1")], {"1": {"7": float("nan")}}, [("1", "7", None)])
    for qrels in bad:
        with pytest.raises(DataError, match=r"the relevance of .7. to .1. is .*grades are whole numbers"):
            [*open_topics({"1": "one"}, qrels).qrels()]
