"""The training step: the loss of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.loss.info_nce import InfoNCE
from irexp.model.dense import DenseBiEncoder
from irexp.pipeline.component import component
from irexp.regularizer.l1 import L1
from irexp.training.batch import Batch
from irexp.training.module import RetrievalModule
from tests import tiny

EPS = torch.finfo(torch.float32).eps


def step(model: DenseBiEncoder, batch: Batch, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Tensor:
    """The loss of a training step, without a trainer."""
    parts: dict[str, Any] = {"optimizer": torch.optim.SGD, "schedule": lambda step, steps: 1.0}
    parts |= {"validation": None, "processes": 1, "training": component("training", learning_rate=1.0)}
    module = RetrievalModule(
        model, InfoNCE(in_batch=False), steps=1, seed=1, **({"regularizer": None} | parts | settings)
    )
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "optimizers", lambda: torch.optim.SGD(model.parameters()))
    return module.training_step(batch, 0)


@pytest.fixture
def model(backbones: dict[str, HuggingFaceBackbone]) -> DenseBiEncoder:
    """A dense model in training, without dropout, and with two Matryoshka dimensions."""
    model = DenseBiEncoder(backbones["encoder"], matryoshka_dims=[2, 4]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture
def batch(model: DenseBiEncoder) -> Batch:
    """Two queries, each with its positive and one negative."""
    return Batch(
        model.pad(model.tokenize_queries(tiny.QUERIES), is_query=True),
        model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False),
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        torch.tensor([[0, 2], [1, 3]]),
    )


def test_the_logged_loss_is_that_of_the_optimizer_step(model: DenseBiEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over its accumulated batches, of which the last one says little."""
    parts: dict[str, Any] = {"optimizer": None, "schedule": None, "regularizer": None, "validation": None}
    training = component("training", learning_rate=1.0, accumulate_batches=2)
    module = RetrievalModule(model, InfoNCE(), steps=1, seed=1, processes=1, training=training, **parts)
    logged: list[float] = []
    monkeypatch.setattr(module, "log", lambda _, value, **__: logged.append(float(value)))
    for value in (1.0, 5.0, 2.0, 4.0):
        module._log_mean("train/loss", torch.tensor(value))
    assert logged[1::2] == [3.0, 3.0]


def test_the_loss_is_the_mean_over_whole_vectors_and_every_matryoshka_dimension(
    model: DenseBiEncoder, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each number of dimensions has the same weight, and none is left out."""
    query, document = model.encode_queries(batch.queries).vectors_BH, model.encode_documents(batch.documents).vectors_BH
    losses = []
    for dims in (16, 2, 4):
        q, d = (torch.nn.functional.normalize(vectors[:, :dims], dim=-1) for vectors in (query, document))
        for row, (positive, negative) in enumerate(((0, 2), (1, 3))):
            scores = torch.stack([q[row] @ d[positive], q[row] @ d[negative]]) / 0.05
            losses.append(-torch.log_softmax(scores, dim=0)[0])
    rounding = 16 * EPS / 0.05  # of a cosine of 16 dimensions, divided by the temperature
    torch.testing.assert_close(step(model, batch, monkeypatch), torch.stack(losses).mean(), rtol=0, atol=rounding)


def test_the_penalty_is_added_to_the_loss(model: DenseBiEncoder, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The returned loss is the sum of both, and the penalty is large enough to notice."""
    regularizer = L1(query_weight=0.5, document_weight=0.25)
    query, document = model.encode_queries(batch.queries).vectors_BH, model.encode_documents(batch.documents).vectors_BH
    penalty = 0.5 * query.abs().sum(dim=1).mean() + 0.25 * document.abs().sum(dim=1).mean()
    expected = step(model, batch, monkeypatch) + penalty
    found = step(model, batch, monkeypatch, regularizer=regularizer)
    torch.testing.assert_close(found, expected, rtol=20 * EPS, atol=0)  # sums of 16 terms, none of them negative
    assert penalty > 0.1 * expected
