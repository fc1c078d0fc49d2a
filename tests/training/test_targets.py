"""Losses and the targets of training examples."""

from __future__ import annotations

from typing import Any

import pytest

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.dataset.collection import Examples
from irexp.dataset.mixture import MixedExamples, TrainingSet
from irexp.loss.approx_ndcg import ApproxNDCG
from irexp.loss.info_nce import InfoNCE
from irexp.loss.kl_divergence import KLDivergence
from irexp.loss.lce import LCE
from irexp.loss.list_net import ListNet
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.loss.rank_net import RankNet
from irexp.loss.score_based_cross_entropy import ScoreBasedInBatchCrossEntropy
from irexp.model.bi_encoder import BiEncoder
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.xtr import XTR
from irexp.pipeline.fit import fit
from irexp.training.targets import check_targets
from irexp.types import Example, Query, UserError


class Targets(Examples):
    """An example for each list of targets."""

    def __init__(self, *targets: tuple[float, ...]) -> None:
        """One example per list."""
        self._targets = targets

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, position: int) -> Example:
        targets = self._targets[position]
        return Example(Query(f"q{position}", "list"), tuple(f"d{n}" for n in range(len(targets))), targets)

    def doc_ids(self) -> set[str]:
        """As many as the longest example has."""
        return {f"d{n}" for targets in self._targets for n in range(len(targets))}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The first document."""
        return frozenset({"d0"})


RELEVANCE = Targets((1.0, 0.0), (1.0, 0.0, 0.0))
LOGITS = Targets((1.0, 0.0), (9.5, -2.0, 3.0))
COSINES = Targets((0.9, 0.2), (0.7, -0.8))


@pytest.mark.parametrize("loss", [MarginMSE(), KLDivergence()])
def test_a_loss_over_a_teachers_scores_refuses_relevance(loss: Loss, backbones: dict[str, HuggingFaceBackbone]) -> None:
    """It would learn margins of 1, whatever the documents are."""
    model = DenseBiEncoder(backbones["encoder"], similarity="dot")
    with pytest.raises(UserError, match=f"{type(loss).__name__} learns a teacher's scores, and .* only relevance"):
        check_targets(model, loss, RELEVANCE)
    check_targets(model, loss, LOGITS)
    texts: Any = [("list", "a bucket", "a queue")]
    with pytest.raises(UserError, match="learns a teacher's scores"):
        fit(model, loss, texts, steps=1, learning_rate=1e-3)


@pytest.mark.parametrize("loss", [InfoNCE(), LCE(), RankNet()])
def test_a_loss_over_an_order_takes_relevance_and_scores(
    loss: Loss, backbones: dict[str, HuggingFaceBackbone], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is refused or warned of."""
    model = DenseBiEncoder(backbones["encoder"], similarity="dot")
    for examples in (RELEVANCE, LOGITS):
        check_targets(model, loss, examples)
    assert not caplog.records


def test_scores_that_are_taken_for_grades_are_refused(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """Of a gain of 2^200 no other document's is a part that counts; percentages are such targets."""
    model = DenseBiEncoder(backbones["encoder"])
    percentages = Targets((100.0, 50.0), (1.0, 200.0, 0.0))
    with pytest.raises(UserError, match=r"ApproxNDCG weighs .* the target 200, above 100; set loss\.max_grade=4"):
        check_targets(model, ApproxNDCG(), percentages)
    check_targets(model, ApproxNDCG(max_grade=4), percentages)


def test_a_difference_that_no_target_has_is_refused_or_warned_of(
    backbones: dict[str, HuggingFaceBackbone], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a negative the loss is 0 at every step, and the weights stay as they are."""
    model = DenseBiEncoder(backbones["encoder"], similarity="dot")
    with pytest.raises(UserError, match=r"loss\.min_target_diff=3: the targets .* at most 1 apart"):
        check_targets(model, LCE(min_target_diff=3), RELEVANCE)
    check_targets(model, LCE(min_target_diff=1), RELEVANCE)
    check_targets(model, ScoreBasedInBatchCrossEntropy(min_target_diff=3), LOGITS)
    assert not caplog.records
    check_targets(model, ScoreBasedInBatchCrossEntropy(min_target_diff=3), COSINES)
    assert "at most 1.5 apart" in caplog.text and "the negatives are those of the other queries alone" in caplog.text


@pytest.mark.parametrize(("loss", "count"), [(LCE(), 0), (InfoNCE(), -1)])
def test_a_training_without_negatives_is_refused(
    loss: Loss, count: int, backbones: dict[str, HuggingFaceBackbone]
) -> None:
    """Only a loss with in-batch negatives can do without an example's own."""
    model, texts = DenseBiEncoder(backbones["encoder"]), [("list", "a bucket", "a queue"), ("stop", "an instance", "a")]
    with pytest.raises(UserError, match=rf"negatives_per_query={count}: {type(loss).__name__} needs at least"):
        fit(model, loss, texts, steps=1, learning_rate=1e-3, negatives_per_query=count)
    fit(model, InfoNCE(), texts, steps=1, learning_rate=1e-3, batch_size=2, negatives_per_query=0)


def test_a_temperature_that_hides_the_differences_of_cosines_is_warned_of(
    backbones: dict[str, HuggingFaceBackbone], caplog: pytest.LogCaptureFixture
) -> None:
    """Cosines differ by 2 at most; a lower temperature, a scale, or a learned one brings them apart."""
    model = DenseBiEncoder(backbones["encoder"], name="narrow")
    for loss in (InfoNCE(), RankNet(temperature=0.05), ListNet(scale=20.0), ListNet(learn_scale=True)):
        check_targets(model, loss, RELEVANCE)
    assert not caplog.records
    for loss in (LCE(), RankNet(), ListNet()):
        check_targets(model, loss, RELEVANCE)
    assert caplog.text.count("lie within ±1, and") == 3
    assert caplog.text.count("set loss.temperature=0.05") == 3
    check_targets(model, ListNet(temperature=0.05), LOGITS)
    assert "the teacher's of one query are up to 11.5 apart, which ListNet cannot reach" in caplog.text


def test_a_set_without_scores_is_found_behind_one_with_scores(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """Its relevance would be learned as margins of 1, whichever set comes first."""
    model = DenseBiEncoder(backbones["encoder"], similarity="dot")
    logits, relevance = TrainingSet(LOGITS), TrainingSet(RELEVANCE)
    for sets in ({"a": logits, "b": relevance}, {"b": relevance, "a": logits}):
        with pytest.raises(UserError, match=r"a set of dataset\.train\.sets has only relevance.* query b: q0"):
            check_targets(model, MarginMSE(), MixedExamples(sets))
    check_targets(model, MarginMSE(), MixedExamples({"a": logits, "c": TrainingSet(COSINES)}))


def test_a_teacher_whose_scores_lie_further_apart_than_the_students_can_is_warned_of(
    backbones: dict[str, HuggingFaceBackbone], caplog: pytest.LogCaptureFixture
) -> None:
    """A cosine, and XTR's mean of cosines, differ by at most 2; an inner product and a sum have room."""
    narrow: list[BiEncoder] = [
        DenseBiEncoder(backbones["encoder"], name="narrow"),
        XTR(backbones["encoder"], dim=4, name="narrow"),
    ]
    wide: list[BiEncoder] = [
        DenseBiEncoder(backbones["encoder"], similarity="dot"),
        ColBERT(backbones["encoder"], dim=4),
    ]
    for model in wide:
        check_targets(model, MarginMSE(), LOGITS)
    for model in narrow:
        check_targets(model, MarginMSE(), COSINES)
    assert not caplog.records
    for model in narrow:
        check_targets(model, MarginMSE(), LOGITS)
    assert caplog.text.count("the scores of narrow lie within ±1, and the teacher's of one query are up to 11.5") == 2
