"""What a collection says of how it is measured: the grade that is relevant, and that queries are documents, too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from irexp.artifact.identity import identify
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from tests.conf.test_conf import CONF


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register_resolvers()
    register_schema()
    yield


def composed(line: str) -> DictConfig:
    """The configuration of overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=shlex.split(line))


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
def test_collections_with_a_convention_say_it(dataset: str, relevance: int | None, remove_query: bool | None) -> None:
    """TREC Deep Learning counts from grade 2 on; in BEIR's ArguAna and Quora a query never finds itself."""
    test = composed(f"dataset={dataset}").dataset.test
    assert (test.relevance, test.remove_query) == (relevance, remove_query)


@pytest.mark.parametrize("setting", ["dataset.test.relevance=2", "dataset.test.remove_query=true"])
@pytest.mark.parametrize("line", ["", "model=mono negatives=none", "model=fusion"])
def test_a_convention_moves_the_measures_and_not_the_run(setting: str, line: str) -> None:
    """What is found is the same, and is measured otherwise; unset, no name moves."""
    plain = composed(f"dataset=irds dataset.id=beir/arguana {line}")
    unset = composed(f"dataset=irds dataset.id=beir/arguana {setting.partition('=')[0]}=null {line}")
    stated = composed(f"dataset=irds dataset.id=beir/arguana {setting} {line}")
    for kind in ("run", "measures"):
        assert identify(plain, kind).name == identify(unset, kind).name
    assert identify(plain, "run").name == identify(stated, "run").name
    assert identify(plain, "measures").name != identify(stated, "measures").name
