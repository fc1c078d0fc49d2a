"""What a collection says of how it is measured: the grade that is relevant, and that queries are documents, too."""

from __future__ import annotations

import shlex

import pytest

from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Identity
from irexp.artifact.plan import draft_plan
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
def test_collections_with_a_convention_say_it(
    compose: Compose, dataset: str, relevance: int | None, remove_query: bool | None
) -> None:
    """TREC Deep Learning counts from grade 2 on; in BEIR's ArguAna and Quora a query never finds itself."""
    test = compose(f"dataset={dataset}").dataset.test
    assert (test.relevance, test.remove_query) == (relevance, remove_query)


@pytest.mark.parametrize("setting", ["dataset.test.relevance=2", "dataset.test.remove_query=true"])
@pytest.mark.parametrize("line", ["", "model=mono negatives=none", "model=fusion"])
def test_a_convention_moves_the_measures_and_not_the_run(compose: Compose, setting: str, line: str) -> None:
    """What is found is the same, and is measured otherwise; unset, no name moves."""

    def names(*convention: str) -> dict[str, str]:
        overrides = ("dataset=irds", "dataset.id=beir/arguana", *shlex.split(line), *convention)
        plan, _ = draft_plan(Experiment(overrides, compose(*overrides)), ["search", "re_rank", "fuse", "evaluate"])
        return {step.artifact.kind: step.name for step in plan.goals if isinstance(step.artifact, Identity)}

    plain, unset, stated = names(), names(f"{setting.partition('=')[0]}=null"), names(setting)
    assert plain.keys() == {"run", "measures"}
    assert plain == unset
    assert plain["run"] == stated["run"]
    assert plain["measures"] != stated["measures"]
