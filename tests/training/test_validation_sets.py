"""Validation on several sets of queries and with several measures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import instantiate

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.check import config_faults
from irexp.config.installation import CONF
from irexp.config.schema import Training
from irexp.dataset.in_memory import TextDocuments, TextExamples, TextTopics
from irexp.dataset.validation_set import ValidationSet
from irexp.loss.info_nce import InfoNCE
from irexp.model.dense import DenseBiEncoder
from irexp.model.splade import SPLADE
from irexp.pipeline.component import component
from irexp.training.callbacks import read_history
from irexp.training.setup import TrainingSetup
from irexp.training.validation import Validated, make_validation
from irexp.training.validation_sets import Validations, make_validations
from irexp.types import UserError
from tests.trainings import SMALL, Compose, fit

#: A further set of validation queries: the test queries of the embedded collection.
TEST = (
    "+validation.test._target_=irexp.dataset.validation_set.ValidationSet",
    "+validation.test.topics._target_=irexp.dataset.aws_howto.AwsHowtoTopics",
    "+validation.test.topics.split=test",
)

DOCUMENTS = TextDocuments({"d1": "a red cup", "d2": "a tall tree", "d3": "an old song"})


def validated(made: Validations) -> Validated:
    """The result of all batches."""
    with torch.inference_mode():
        for number in range(len(made)):
            made.collect(made[number])
    return made.measure()


def test_each_set_has_its_measures_and_the_mean_over_the_sets(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """The mean weights sets equally, whatever their queries; so does the mean of the values per query."""
    model = DenseBiEncoder(backbones["encoder"]).eval()
    training: Training = component("training", validation_measures=["R@1", "RR@2"], select_by="RR@2")
    small = TextTopics({"q1": "red cup"}, {"q1": ["d1"]})
    large = TextTopics({"q1": "song", "q2": "tree", "q3": "cups"}, {"q1": ["d3"], "q2": ["d2"], "q3": ["d2"]})
    single = {
        name: make_validation(DOCUMENTS, topics, model, training, seed=1, token_budget=64)
        for name, topics in (("small", small), ("large", large))
    }
    alone = {name: validated(Validations({name: one})) for name, one in single.items()}
    assert list(alone["small"].values) == ["RR@2", "R@1"]
    both = validated(Validations(single))
    assert list(both.values)[:2] == ["RR@2", "R@1"]
    for name in ("RR@2", "R@1"):
        parts = [alone[key].values[name] for key in ("small", "large")]
        assert [both.values[f"{key}/{name}"] for key in ("small", "large")] == parts
        assert both.values[name] == pytest.approx(sum(parts) / 2)
    assert len(both.value_Q) == 4
    assert both.value_Q.mean() == pytest.approx(both.values["RR@2"])
    assert len({float(one.value_Q.mean()) for one in alone.values()}) == 2  # else any weights would do


def test_a_second_validation_begins_with_nothing_of_the_first(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """The same weights have the same result again."""
    model = SPLADE(backbones["encoder"]).eval()
    topics = TextTopics({"q1": "red cup", "q2": "tree"}, {"q1": ["d1"], "q2": ["d2"]})
    one = make_validation(DOCUMENTS, topics, model, component("training"), seed=1, token_budget=64)
    made = Validations({"one": one, "two": one})
    first, second = validated(made), validated(made)
    assert first.values == second.values
    np.testing.assert_array_equal(first.value_Q, second.value_Q)
    assert {"query_terms", "document_terms", "FLOPS", "one/FLOPS", "two/nDCG@10"} < first.values.keys()


def test_the_order_of_the_sets_changes_nothing(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """A training that is resumed would compare other queries; neither the order nor a null is in the identity."""
    model = DenseBiEncoder(backbones["encoder"])
    topics = TextTopics({"q1": "red cup"}, {"q1": ["d1"]})
    training, machine = component("training"), component("machine")
    optimizer, schedule = component("optimizer"), component("schedule")
    examples = TextExamples([("a", "b")])
    for names in ("ab", "bca"):
        sets: Any = {name: ValidationSet(topics) if name != "c" else None for name in names}
        setup = TrainingSetup(
            InfoNCE(), examples, DOCUMENTS, topics, training, machine, optimizer, schedule, 1, validation=sets
        )
        made = make_validations(model, setup)
        assert made is not None and list(made.sets) == ["dev", "a", "b"]


def test_a_fit_logs_every_set_and_measure_and_selects_by_the_mean(compose: Compose, tmp_path: Path) -> None:
    """The history has all of them at each validation; the verdict is over the queries of both sets."""
    measures = fit(compose, tmp_path / "run", *TEST, "training.validation_measures=[RR@10]", "training.steps=2")
    rows = [row for row in read_history(tmp_path / "run" / "history.csv") if row["name"].startswith("validation/")]
    value_of = {(row["step"], row["name"]): float(row["value"]) for row in rows}
    expected = [f"validation/{part}{name}" for part in ("", "dev/", "test/") for name in ("nDCG@10", "RR@10")]
    assert list(value_of) == [(step, name) for step in ("0", "2") for name in expected]
    mean = (value_of["2", "validation/dev/nDCG@10"] + value_of["2", "validation/test/nDCG@10"]) / 2
    assert measures["validation/nDCG@10"] == pytest.approx(mean, abs=1e-5)
    assert measures["start/nDCG@10"] == value_of["0", "validation/nDCG@10"]
    assert 0 < measures["start/p_value"] < 1
    assert len(np.load(tmp_path / "run" / ".training" / "per_query-2.npy")) == 80


def test_a_set_may_stand_in_for_the_development_queries(compose: Compose, tmp_path: Path) -> None:
    """Without dataset.dev the only set is logged without its name, as dataset.dev is."""
    measures = fit(compose, tmp_path / "run", *TEST, "dataset.dev=null", "training.steps=1", "schedule=constant")
    assert set(measures) == {"validation/nDCG@10", "steps", "start/nDCG@10", "start/p_value"}


@pytest.mark.parametrize(("name", "message"), [("dev", "the name of dataset.dev"), ("a/b", "has a slash")])
def test_a_name_that_would_be_mixed_up_is_refused(compose: Compose, tmp_path: Path, name: str, message: str) -> None:
    """The history could not tell the sets apart."""
    config = compose(*SMALL, *TEST)
    config.validation = {name: config.validation.test}
    with pytest.raises(UserError, match=message):
        instantiate(config.stage.fit, _convert_="object")(tmp_path)


def test_a_wrong_set_or_measure_is_refused_before_anything_is_loaded(compose: Compose) -> None:
    """The checks of the configuration know the group and the key."""
    config = compose("+validation.test._target_=irexp.dataset.aws_howto.AwsHowtoTopics", "+validation.test.split=dev")
    config.training.validation_measures = ["nDGC@10"]
    faults = config_faults(config)
    assert [fault.partition(":")[0] for fault in faults] == ["training.validation_measures", "validation.test._target_"]


def test_nano_beir_has_the_collections_of_its_suite() -> None:
    """Each collection of conf/suite/nano_beir.yaml is a set of conf/validation/nano_beir.yaml, and the reverse."""
    suite = yaml.safe_load((CONF / "suite" / "nano_beir.yaml").read_text(encoding="utf8"))["columns"]
    options = [column[0].removeprefix("dataset=") for column in suite.values()]
    files = [(CONF / "dataset" / f"{option}.yaml").read_text(encoding="utf8") for option in options]
    ids = [found.group(1) for file in files if (found := re.search(r"^id: (\S+)$", file, re.MULTILINE))]
    sets = yaml.safe_load((CONF / "validation" / "nano_beir.yaml").read_text(encoding="utf8"))
    assert [each["dataset_id"] for each in sets.values()] == ids
    assert len(ids) == 13
