"""Documents that may be relevant are left out as negatives: by their text, by a margin, by a guide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.schema import FalseNegatives
from irexp.dataset.collection import Documents
from irexp.loss.info_nce import InfoNCE
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.pipeline.component import component
from irexp.training.batch import Batch, Batches, PairBatch
from irexp.training.false_negatives import check_guide, without_false_negatives
from irexp.training.lists import Lists
from irexp.training.module import RetrievalModule
from irexp.types import Document, UserError
from tests.training.eight import BACKBONE, Eight, Listed

NAN = torch.nan


class WithCopies(Documents):
    """Documents d0 … d7, of which d6 has the text of d4, which is relevant to q3."""

    def __iter__(self) -> Iterator[Document]:
        return iter(self.get_many(f"d{i}" for i in range(8)).values())

    def count(self) -> int:
        """Eight."""
        return 8

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """The requested documents that exist."""
        found = Eight().get_many(doc_ids)
        if "d6" in found:
            found["d6"] = Document("d6", Eight().get_many(["d4"])["d4"].text + " ")
        return found


def targets_of(in_batch: bool, same_text: bool, model: Any = None) -> torch.Tensor:
    """The targets of query q3 with its positive d4, and of q4 with d5 and the negative d6."""
    examples = Listed(("q3", ("d4", "d6", "d7"), (1.0, 0.0, 0.0)), ("q4", ("d5", "d6"), (1.0, 0.0)))
    model = model or DenseBiEncoder(BACKBONE, query_length=16, document_length=16).eval()
    made = Batches(examples, WithCopies(), model, size=2, in_batch=in_batch, seed=1, same_text=same_text)
    batch: Batch | PairBatch = made[0]
    order = [examples[position].query.query_id for position in made.positions(0)]
    return batch.target_BN[[order.index("q3"), order.index("q4")]]


@pytest.mark.parametrize("kind", ["in_batch", "lists", "pairs"])
def test_a_document_with_the_text_of_a_relevant_one_is_no_negative(kind: str) -> None:
    """For q3, d6 is left out, since it is d4 under another id; for q4 it stays, and without the setting for both."""
    model = Mono(BACKBONE, query_length=8, document_length=16) if kind == "pairs" else None
    without, filtered = (targets_of(kind == "in_batch", same_text, model) for same_text in (False, True))
    assert (without[0] == 0).sum() == (3 if kind == "in_batch" else 2)
    assert (filtered[0] == 0).sum() == (2 if kind == "in_batch" else 1)
    assert (filtered[0] == 1).sum() == 1
    assert (filtered[1] == 0).sum() == (without[1] == 0).sum()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (FalseNegatives(margin=0.0), [[1, NAN, 0, NAN], [0, 0, 1, NAN]]),
        (FalseNegatives(margin=0.15), [[1, NAN, 0, 0], [0, 0, 1, NAN]]),
        (FalseNegatives(margin=-0.3), [[1, NAN, NAN, NAN], [0, 0, 1, NAN]]),
        (FalseNegatives(relative_margin=0.2), [[1, NAN, 0, 0], [NAN, 0, 1, NAN]]),
        (FalseNegatives(guide="a guide"), [[1, NAN, 0, NAN], [0, 0, 1, NAN]]),
    ],
)
def test_a_margin_leaves_out_what_scores_too_close_to_the_positive_or_above_it(
    settings: FalseNegatives, expected: list[list[float]]
) -> None:
    """The margin is absolute, or a share of the positive's score, whatever its sign; the positive itself stays."""
    score_BN = torch.tensor([[0.5, 0.9, 0.3, 0.58], [-0.75, -2.0, -1.0, 0.1]])
    target_BN = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, NAN]])
    if settings.relative_margin is None:
        score_BN[1, 0] = -1.5
    found = without_false_negatives(score_BN, target_BN, settings)
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


def test_the_positive_of_a_teachers_scores_is_the_one_to_compare_with() -> None:
    """Not the first document; neither of the two is left out."""
    score_BN, target_BN = torch.tensor([[0.9, 0.2, 0.5, 0.1]]), torch.tensor([[1.0, 0, 0, 0]])
    found = without_false_negatives(score_BN, target_BN, FalseNegatives(margin=0.0), torch.tensor([[1]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, NAN, 0]]), equal_nan=True)
    lists = Lists(torch.tensor([[2.0, NAN, 5.0], [1.0, -1.0, NAN]]), torch.tensor([[4, 0, 7], [2, 3, 0]]))
    assert lists.best_column().tolist() == [[7], [2]]


def trained(
    model: DenseBiEncoder, guide: DenseBiEncoder | None, settings: FalseNegatives, monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.Tensor, dict[str, float], RetrievalModule]:
    """The loss of a step with a guide, and what it logs."""
    examples = Listed(("q3", ("d4", "d6"), (1.0, 0.0)), ("q4", ("d5", "d7"), (1.0, 0.0)))
    batch = Batches(examples, Eight(), model, size=2, in_batch=True, seed=1, guide=guide)[0]
    parts: dict[str, Any] = {"schedule": None, "validation": None, "processes": 1, "seed": 1, "regularizer": None}
    module = RetrievalModule(
        model,
        InfoNCE(),
        optimizer=torch.optim.SGD,
        training=component("training", learning_rate=1.0),
        steps=1,
        false_negatives=settings,
        guide=guide,
        **parts,
    )
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: torch.as_tensor(value).item()}))
    monkeypatch.setattr(module, "optimizers", lambda: torch.optim.SGD(model.parameters()))
    return module.training_step(batch, 0), logged, module


def test_a_guide_decides_and_is_not_trained(
    backbones: dict[str, HuggingFaceBackbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With margins that leave out nothing the loss is the plain one, with others all negatives; the guide is frozen.

    A guide that leaves out every document gives the loss 0, and training goes on.
    """
    model = DenseBiEncoder(backbones["encoder"], pooling="mean").eval()
    guide = DenseBiEncoder(backbones["encoder"], pooling="cls", similarity="dot")
    plain, _, _ = trained(model, None, FalseNegatives(), monkeypatch)
    wide, logged, module = trained(model, guide, FalseNegatives(guide="x", margin=1e6), monkeypatch)
    torch.testing.assert_close(wide, plain)
    assert logged["train/false_negatives"] == 0.0
    none, logged, _ = trained(model, guide, FalseNegatives(guide="x", margin=-1e6), monkeypatch)
    assert none.item() == 0.0
    torch.autograd.backward(none)
    assert logged["train/false_negatives"] == pytest.approx(6 / 8)
    assert not any(parameter.requires_grad for parameter in guide.parameters())
    assert not any("guide" in name for name in module.state_dict())


def test_what_cannot_be_filtered_is_refused(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """Scores are compared by a bi-encoder."""
    mono = Mono(backbones["encoder"], name="mono")
    with pytest.raises(
        UserError, match=r"false_negatives\.guide=x: .* needs a bi-encoder, and mono is a cross-encoder"
    ):
        check_guide(mono, FalseNegatives(guide="x"))
    assert check_guide(None, FalseNegatives(same_text=True)) is None
