"""Every loss trains each family of models that it fits, and is refused by name for the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.loss.lambda_loss import LambdaLoss
from irexp.loss.loss import Loss
from irexp.loss.weighted_sum import WeightedSum
from irexp.model.colbert import ColBERT
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mvr import MVR
from irexp.pipeline.component import component
from irexp.training.batch import Batches
from irexp.training.module import RetrievalModule
from irexp.training.targets import check_targets
from irexp.types import UserError
from tests.families import MAKE
from tests.loss.test_own_documents import ALL
from tests.training.eight import Eight, Listed

#: A teacher's scores of three documents of each of two queries.
TAUGHT = Listed(("q3", ("d4", "d6", "d0"), (4.0, 1.0, 0.5)), ("q4", ("d5", "d7", "d2"), (3.0, 2.5, 0.0)))

FAMILIES = (
    "dense_decoder",
    "splade",
    "unicoil",
    "coil",
    "colbert",
    "xtr",
    "mvr",
    "mono",
    "rank_t5",
    "set_encoder",
    "matryoshka",
    "matryoshka_tokens",
)

#: The losses of the package, and two sums: over lists alone, and over lists and the batch.
LOSSES: dict[str, Loss] = {
    **ALL,
    "KL and MarginMSE": WeightedSum({"kl": ALL["KLDivergence"], "mse": ALL["MarginMSE"]}, weights={"mse": 0.05}),
    "KL and InfoNCE": WeightedSum({"kl": ALL["KLDivergence"], "nce": ALL["InfoNCE"]}),
}


@pytest.fixture(scope="module")
def models(backbones: dict[str, HuggingFaceBackbone]) -> dict[str, Model]:
    """A model of each family, in training."""
    torch.manual_seed(0)
    made = {name: MAKE[name](backbones) for name in FAMILIES if name in MAKE}
    made["matryoshka"] = DenseBiEncoder(backbones["encoder"], similarity="dot", matryoshka_dims=[4, 8])
    made["matryoshka_tokens"] = ColBERT(backbones["encoder"], dim=8, query_length=12, matryoshka_dims=[4])
    with torch.no_grad():  # random weights give scores of hundreds, where a smooth rank has no gradient
        made["splade"].get_submodule("decoder").weight.mul_(0.05)  # type: ignore[operator]
    return {name: model.train() for name, model in made.items()}


def refusal(model: Model, loss: Loss) -> str | None:
    """The beginning of the message that refuses a loss; None if it fits."""
    if isinstance(model, CrossEncoder) and loss.in_batch:
        return "needs in-batch negatives, but a cross-encoder"
    if any(part.loss.compares_viewers for part in loss.parts()) and not isinstance(model, MVR):
        return "ContrastiveLocal compares a query with each viewer"
    return None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_trains_a_family_or_is_refused_by_name(
    name: str, family: str, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps change the weights and leave them finite; a loss that does not fit is refused in one line."""
    model, loss = copy.deepcopy(models[family]), LOSSES[name]  # others train it, too
    if (expected := refusal(model, loss)) is not None:
        with pytest.raises(UserError, match=expected):
            check_targets(model, loss, TAUGHT)
        return
    check_targets(model, loss, TAUGHT)
    before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    module, optimizer = made(model, loss, monkeypatch)
    batches = Batches(TAUGHT, Eight(), model, size=2, in_batch=loss.in_batch, seed=1)
    for number in range(2):
        value = module.training_step(batches[number], number)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)


def made(model: Model, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> tuple[RetrievalModule, torch.optim.Optimizer]:
    """The training of a model without a trainer, and its optimizer."""
    parts: dict[str, Any] = {"schedule": lambda step, steps: 1.0, "validation": None, "processes": 1, "seed": 1}
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    training = component("training", learning_rate=1e-4)
    module = RetrievalModule(model, loss, regularizer=None, optimizer=make, training=training, steps=2, **parts)
    optimizer: torch.optim.Optimizer = module.configure_optimizers()["optimizer"]
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "optimizers", lambda: optimizer)
    return module, optimizer


def test_a_loss_over_grades_refuses_a_teachers_negative_scores(models: dict[str, Model]) -> None:
    """Their gains would be negative; max_grade maps them to grades."""
    negative = Listed(("q3", ("d4", "d6"), (-1.0, -5.0)))
    with pytest.raises(UserError, match=r"LambdaLoss learns grades .* has the target -5, .* set loss\.max_grade=4"):
        check_targets(models["splade"], LambdaLoss(), negative)
    check_targets(models["splade"], LambdaLoss(max_grade=4.0), negative)
