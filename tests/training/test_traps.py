"""Warnings of known traps, at the start of a training."""

from __future__ import annotations

from typing import Any

import pytest

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.schema import Machine
from irexp.dataset.collection import Examples
from irexp.dataset.in_memory import TextDocuments, TextExamples, TextTopics
from irexp.dataset.mixture import MixedExamples, TrainingSet
from irexp.loss.info_nce import InfoNCE
from irexp.loss.kl_divergence import KLDivergence
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.loss.rank_net import RankNet
from irexp.loss.weighted_sum import WeightedSum
from irexp.model.dense import DenseBiEncoder
from irexp.pipeline.component import component
from irexp.training.datamodule import RetrievalData
from irexp.training.setup import TrainingSetup
from irexp.training.traps import warn_of_traps
from irexp.training.validation import make_validation
from irexp.training.validation_sets import Validations
from tests.training.test_targets import COSINES, LOGITS, Targets

#: Forty queries, each with its own document.
MANY = TextExamples([(f"query {n}", f"document {n}") for n in range(40)])

#: Lists of two and of three documents.
UNEVEN = Targets((2.0, 1.0), (2.0, 1.0, 0.0))

CLOSE = Targets((0.9, 0.8), (0.3, 0.1))

#: Forty examples of four queries.
FEW = TextExamples([(f"query {n % 4}", f"document {n}") for n in range(40)])


@pytest.fixture
def machine() -> Machine:
    """This machine's CPU."""
    found: Machine = component("machine", "cpu")
    return found


def warnings(
    caplog: pytest.LogCaptureFixture,
    machine: Machine,
    backbone: HuggingFaceBackbone,
    loss: Loss,
    examples: Examples,
    *,
    validation: Validations | None = None,
    **training: Any,
) -> list[str]:
    """The warnings of a training that begins."""
    settings = component("training", **{"steps": 4, "batch_size": 8, **training})
    documents = TextDocuments({f"d{n}": f"text {n}" for n in range(9)})
    setup = TrainingSetup(
        loss, examples, documents, None, settings, machine, component("optimizer"), component("schedule"), 1
    )
    data = RetrievalData(
        examples,
        documents,
        DenseBiEncoder(backbone, similarity="dot"),
        training=settings,
        machine=machine,
        in_batch=loss.in_batch,
        negatives=setup.negatives,
        seed=1,
        validation=None,
    )
    caplog.clear()
    warn_of_traps(setup, data, validation)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("loss", "examples", "training", "message"),
    [
        (InfoNCE(), MANY, {}, None),
        (InfoNCE(), MANY, {"accumulate_batches": 4}, "in-batch negatives come from 2 queries, not from all 8"),
        (InfoNCE(), FEW, {}, "a batch of 8 examples has only 3."),
        (InfoNCE(), MANY, {"steps": 100}, None),
        (
            InfoNCE(),
            MANY,
            {"steps": 101},
            "101 steps of training.batch_size=8 visit each of the 40 training examples 20",
        ),
        (InfoNCE(), MANY, {"steps": None, "epochs": 30}, "visit each of the 40 training examples 30 times"),
        (MarginMSE(), COSINES, {"accumulate_batches": 4}, None),
        (MarginMSE(), LOGITS, {"accumulate_batches": 4}, "MarginMSE averages over what differs among them"),
        (RankNet(), UNEVEN, {"accumulate_batches": 4}, "RankNet averages over what differs among them"),
        (RankNet(), UNEVEN, {}, None),
        (WeightedSum({"a": KLDivergence(), "b": MarginMSE()}), CLOSE, {}, "one query are at most 0.2 apart"),
        (KLDivergence(), LOGITS, {}, None),
        (KLDivergence(), CLOSE, {}, "scores of one query are at most 0.2 apart"),
        (KLDivergence(temperature=0.05), CLOSE, {}, None),
        (MarginMSE(), COSINES, {}, None),
    ],
)
def test_a_trap_is_warned_of_in_one_line_and_nothing_else_is(
    caplog: pytest.LogCaptureFixture,
    machine: Machine,
    backbones: dict[str, HuggingFaceBackbone],
    loss: Loss,
    examples: Examples,
    training: dict[str, Any],
    message: str | None,
) -> None:
    """Each trap beside a setting that differs in one value and is none."""
    found = warnings(caplog, machine, backbones["encoder"], loss, examples, **{"steps": 4, **training})
    assert len(found) == (0 if message is None else 1)
    assert message is None or (message in found[0] and "\n" not in found[0])


def test_teachers_of_different_scales_in_one_mixture_are_warned_of(
    caplog: pytest.LogCaptureFixture, machine: Machine, backbones: dict[str, HuggingFaceBackbone]
) -> None:
    """The squared margins of the wider one outweigh the others; one scale is fine."""
    wide, narrow = Targets((30.0, 10.0), (9.0, -9.0)), Targets((0.9, 0.2), (0.5, 0.1))
    documents = TextDocuments({"d0": "text 0", "d1": "text 1"})
    for other, count in ((wide, 1), (narrow, 0)):
        sets = {"a": TrainingSet(narrow, documents=documents), "b": TrainingSet(other, documents=documents)}
        found = warnings(caplog, machine, backbones["encoder"], MarginMSE(), MixedExamples(sets))
        assert len(found) == count
        assert all("scores of one query are 0.55 apart in one set and 19 in another" in one for one in found)


@pytest.mark.parametrize(
    ("queries", "drawn", "messages"),
    [
        (10, None, ["the validation has only 10 queries, whose mean nDCG is only known to about ±0.22"]),
        (60, None, []),
        (60, 100, ["the validation on dev searches only 100 documents"]),
    ],
)
def test_a_small_validation_is_warned_of(
    caplog: pytest.LogCaptureFixture,
    machine: Machine,
    backbones: dict[str, HuggingFaceBackbone],
    queries: int,
    drawn: int | None,
    messages: list[str],
) -> None:
    """Few queries, or few documents of a larger collection; a small collection is searched as a whole."""
    documents = TextDocuments({f"d{n}": f"text {n}" for n in range(120)})
    topics = TextTopics({f"q{n}": f"text {n}" for n in range(queries)}, {f"q{n}": [f"d{n}"] for n in range(queries)})
    settings = component("training", validation_documents=drawn)
    model = DenseBiEncoder(backbones["encoder"])
    made = Validations({"dev": make_validation(documents, topics, model, settings, seed=1, token_budget=512)})
    found = warnings(
        caplog, machine, backbones["encoder"], InfoNCE(), MANY, validation=made, validation_documents=drawn
    )
    assert len(found) == len(messages)
    assert all(message in one for message, one in zip(messages, found, strict=True))
