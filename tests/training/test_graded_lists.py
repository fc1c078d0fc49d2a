"""Lists with grades, and losses with one positive: no document that is judged relevant is a negative by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.dataset.in_memory import TextTopics
from irexp.dataset.run_examples import LocalRun, RunExamples
from irexp.dataset.text_examples import TextFileExamples
from irexp.loss.info_nce import InfoNCE
from irexp.loss.lambda_loss import LambdaLoss
from irexp.loss.lce import LCE
from irexp.loss.loss import Loss
from irexp.loss.weighted_sum import WeightedSum
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.training.batch import Batch, Batches, PairBatch
from irexp.training.lists import Lists
from irexp.training.objective import Scored
from tests.text_files import write
from tests.training.eight import Eight, Listed
from tests.training.test_losses_and_families import made

NAN = torch.nan


@pytest.fixture
def graded(tmp_path: Path) -> RunExamples:
    """A query with two documents of grade 2, one of grade 1, one of grade 0 and one that is not judged, as ranked."""
    lines = [f"q1 Q0 {doc_id} {rank} {9 - rank} x\n" for rank, doc_id in enumerate(("d5", "d3", "d1", "d0", "d2"), 1)]
    (tmp_path / "a.run").write_text("".join(lines))
    topics = TextTopics({"q1": "a question"}, {"q1": {"d0": 2, "d1": 2, "d2": 1, "d3": 0}})
    return RunExamples(LocalRun(str(tmp_path / "a.run")), topics, targets="relevance")


@pytest.fixture(params=["dense", "mono"])
def model(request: pytest.FixtureRequest, backbones: dict[str, HuggingFaceBackbone]) -> Model:
    """A bi-encoder and a cross-encoder, whose batches are made differently."""
    torch.manual_seed(0)
    return (DenseBiEncoder if request.param == "dense" else Mono)(backbones["encoder"]).train()


def lists_of(batch: Batch | PairBatch) -> Lists:
    """Each query's own documents."""
    return batch.lists if isinstance(batch, PairBatch) else batch.own()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (LCE(), [2.0, 0.0, 0.0, 2.0, NAN]),
        (InfoNCE(in_batch=False), [2.0, 0.0, 0.0, 2.0, NAN]),
        (LCE(min_target_diff=1.0), [2.0, 0.0, 0.0, 2.0, 1.0]),
        (LambdaLoss(), [2.0, 0.0, 0.0, 2.0, 1.0]),
    ],
    ids=["LCE", "InfoNCE", "LCE by difference", "LambdaLoss"],
)
def test_a_lower_grade_is_left_out_unless_the_loss_learns_grades_or_is_told_the_difference(
    loss: Loss, expected: list[float], graded: RunExamples, model: Model
) -> None:
    """The best two are positives; unjudged documents and those of grade 0 are negatives."""
    lists = lists_of(Batches(graded, Eight(), model, size=1, in_batch=False, seed=1)[0])
    _, target_BN = Scored([], lists, [], None).of(loss)
    torch.testing.assert_close(target_BN, torch.tensor([expected]), equal_nan=True)


def test_each_loss_of_a_sum_has_its_own_targets_of_a_graded_list(
    graded: RunExamples, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of LCE and LambdaLoss in a training step is that of both over their own targets."""
    loss = WeightedSum({"lce": LCE(), "grades": LambdaLoss()}, weights={"grades": 0.5})
    module, _ = made(model.eval(), loss, monkeypatch)
    batch: Any = Batches(graded, Eight(), model, size=1, in_batch=False, seed=1)[0]
    scored, _ = module._score_pairs(batch) if isinstance(batch, PairBatch) else module._score_embeddings(batch)
    (score_BN,), target_BN = scored.scores, lists_of(batch).target_BN
    kept = [0, 1, 3, 4]
    expected = LCE()(score_BN[:, kept], target_BN[:, kept]) + 0.5 * LambdaLoss()(score_BN, target_BN)
    torch.testing.assert_close(module.training_step(batch, 0), expected)


def test_a_judged_document_is_not_a_negative_of_one_that_a_teacher_scores_higher(model: Model) -> None:
    """Of q0 both d0 and d1 are judged relevant; the teacher prefers d6."""
    examples = Listed(("q0", ("d0", "d6", "d1", "d7"), (3.0, 5.0, 1.5, 0.5)))
    lists = lists_of(Batches(examples, Eight(), model, size=1, in_batch=False, seed=1)[0])
    _, target_BN = Scored([], lists, [], None).of(LCE())
    torch.testing.assert_close(target_BN, torch.tensor([[NAN, 5.0, NAN, 0.5]]), equal_nan=True)


@pytest.mark.parametrize("example", [("q0", ("d0", "d1"), (2.0, 1.0)), ("q3", ("d4",), (1.0,))])
def test_a_batch_without_negatives_teaches_nothing(
    model: Model, monkeypatch: pytest.MonkeyPatch, example: tuple[str, tuple[str, ...], tuple[float, ...]]
) -> None:
    """Negatives that were drawn may all be relevant, and mining may have found none for the examples of a batch."""
    module, _ = made(model, LCE(), monkeypatch)
    batch: Any = Batches(Listed(example), Eight(), model, size=1, in_batch=False, seed=1)[0]
    value = module.training_step(batch, 0)
    torch.autograd.backward(value)
    assert value.item() == 0.0
    assert all(float(p.grad.abs().max()) == 0.0 for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [((2, 2, 0), [1, NAN, 0]), ((2.5, 2.5, 0.5), [1, NAN, 0]), ((2.5, 1.5, 0.5), [1, 0, 0]), ((2, 1, 0), [1, NAN, 0])],
)
def test_documents_as_good_as_the_positive_are_not_its_in_batch_negatives(
    tmp_path: Path, backbones: dict[str, HuggingFaceBackbone], targets: tuple[float, ...], expected: list[float]
) -> None:
    """Nor are those of lower grades above 0; lower scores of a teacher are negatives."""
    line = {"query": "a", "documents": ["p", "p2", "n"], "scores": targets}
    examples = TextFileExamples(write(tmp_path / "t.jsonl", json.dumps(line) + "\n"))
    model = DenseBiEncoder(backbones["encoder"])
    batch = Batches(examples, examples.texts(Eight()), model, size=1, in_batch=True, seed=1)[0]
    assert isinstance(batch, Batch)
    torch.testing.assert_close(batch.target_BN, torch.tensor([expected], dtype=torch.float32), equal_nan=True)


@pytest.mark.parametrize("key", ["scores", "labels"])
def test_a_lower_grade_in_a_file_of_texts_is_left_out_by_lce(tmp_path: Path, model: Model, key: str) -> None:
    """As in a run with judgements."""
    line = {"query": "a", "documents": ["n", "p2", "p"], key: [0, 1, 2]}
    examples = TextFileExamples(write(tmp_path / "t.jsonl", json.dumps(line) + "\n"))
    batch = Batches(examples, examples.texts(Eight()), model, size=1, in_batch=False, seed=1)[0]
    target_BN = lists_of(batch).without_relevant()
    torch.testing.assert_close(target_BN, torch.tensor([[2.0, NAN, 0.0]]), equal_nan=True)


def test_the_next_grade_is_the_positive_if_the_best_document_is_not_in_the_collection(model: Model) -> None:
    """Of q0 both d0 and d1 are relevant; an example of labels without its positive is left out."""
    examples = Listed(("q0", ("d0", "d6", "d1"), (2.0, 0.0, 1.0)), ("q0", ("d0", "d6", "d1"), (1.0, 0.0, 0.0)))
    made = Batches(examples, Eight(), model, size=1, in_batch=False, seed=1, unknown={"d0"})
    assert made.examples == 1
    assert lists_of(made[0]).target_BN.tolist() == [[1.0, 0.0]]
