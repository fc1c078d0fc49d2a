"""Parameter groups, frozen layers, and the average of the weights, on a model of two layers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AlbertConfig, AlbertModel, AutoModel

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.loss.margin_mse import MarginMSE
from irexp.model.colbert import ColBERT
from irexp.model.splade import SPLADE
from irexp.pipeline.component import component
from irexp.training import optimizer
from irexp.training.activations import checkpointed
from irexp.training.averaging import WeightAverage
from irexp.training.eight_bit import adamw_8bit
from irexp.training.optimizer import check_kernel, depth_of, frozen, make_optimizer, warn_of_learning_rate
from irexp.training.schedule import constant
from irexp.types import UserError
from tests import tiny


@pytest.fixture
def model(backbones: dict[str, HuggingFaceBackbone]) -> ColBERT:
    """An encoder with a projection on top."""
    torch.manual_seed(0)
    return ColBERT(backbones["encoder"], dim=4)


def rates(model: ColBERT, **training: Any) -> dict[str, tuple[float, float]]:
    """The learning rate and the weight decay of each parameter."""
    made = make_optimizer(
        model,
        torch.nn.Module(),
        optimizer=partial(torch.optim.AdamW, weight_decay=0.1),
        schedule=constant,
        training=component("training", learning_rate=1.0, **training),
        steps=10,
    )["optimizer"]
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (group["lr"], group["weight_decay"]) for group in made.param_groups for p in group["params"]}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (partial(torch.optim.AdamW, fused=None), True),
        (partial(torch.optim.AdamW, fused=False), False),
        (partial(torch.optim.SGD, momentum=0.9), None),
        (torch.optim.SGD, None),
    ],
    ids=["open", "chosen", "another", "without settings"],
)
def test_a_processor_takes_the_fused_kernel_of_adamw_if_the_choice_is_open(
    model: ColBERT, chosen: Callable[..., torch.optim.Optimizer], expected: bool | None
) -> None:
    """What is configured stands, and other optimizers are called as they are configured."""
    made = make_optimizer(
        model,
        torch.nn.Module(),
        optimizer=chosen,
        schedule=constant,
        training=component("training", learning_rate=1.0),
        steps=10,
    )["optimizer"]
    assert {group.get("fused") for group in made.param_groups} == {expected}


def test_the_fused_kernel_is_not_taken_where_it_cannot_clip(model: ColBERT) -> None:
    """In mixed precision Lightning refuses it at the first step: it is left out, or refused before the training."""
    mixed = component("training", learning_rate=1.0, precision="bf16-mixed")
    chosen = partial(torch.optim.AdamW, fused=None)
    made = make_optimizer(model, torch.nn.Module(), optimizer=chosen, schedule=constant, training=mixed, steps=10)[
        "optimizer"
    ]
    assert {group["fused"] for group in made.param_groups} == {None}
    with pytest.raises(UserError, match=r"^optimizer\.fused=true cannot clip gradients in training\.precision=bf16"):
        check_kernel(partial(torch.optim.AdamW, fused=True), mixed)
    check_kernel(partial(torch.optim.AdamW, fused=True), component("training", clip_norm=None, precision="bf16-mixed"))


def test_each_layer_learns_more_slowly_than_the_one_above_and_the_head_at_its_own_rate(model: ColBERT) -> None:
    """Two layers with a decay of 0.5: 1 and 0.5, the embeddings 0.25, the projection 3; every weight is in a group."""
    found = rates(model, layer_decay=0.5, head_learning_rate=3.0)
    layers = sorted({int(name.split(".layer.")[1][0]) for name in found if ".layer." in name})
    assert layers == [0, 1]
    assert found.keys() == {name for name, _ in model.named_parameters()}
    for name, (rate, _) in found.items():
        expected = 3.0 if name.startswith("projections") else 0.25 if "embeddings" in name else None
        if expected is None:
            expected = {0: 0.5, 1: 1.0}[int(name.split(".layer.")[1][0])]
        assert rate == expected, name


def test_by_default_all_parts_learn_at_one_rate_and_vectors_are_not_decayed(model: ColBERT) -> None:
    """Two groups, matrices first."""
    found = rates(model)
    dims = {name: parameter.ndim for name, parameter in model.named_parameters()}
    assert set(found.values()) == {(1.0, 0.1), (1.0, 0.0)}
    assert all((decay == 0.1) == (dims[name] > 1) for name, (_, decay) in found.items())


@pytest.mark.parametrize("kind", ["encoder", "t5", "decoder"])
def test_the_depth_of_every_weight_of_a_transformer_is_known(
    backbones: dict[str, HuggingFaceBackbone], kind: str
) -> None:
    """The word embeddings have depth 0, and the layers of encoders and decoders the depths above it, without a gap."""
    model = ColBERT(backbones[kind], dim=4, query_expansion=False)
    depths = depth_of(model)
    embeddings: Any = model.encoder.get_input_embeddings()
    assert depths[embeddings.weight] == 0
    assert sorted(set(depths.values())) == list(range(max(depths.values()) + 1))
    assert max(depths.values()) == model.encoder.config.num_hidden_layers
    assert len(depths) == len(list(model.encoder.parameters()))


def test_two_encoders_of_different_depth_count_their_own_layers(
    model: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The top layers of both learn at the whole rate, and no more layers can be frozen than the lower one has."""
    deep = AutoModel.from_pretrained(tiny.bert(tmp_path / "deep", num_hidden_layers=4))
    towers = {"query": model.encoder, "document": deep}
    monkeypatch.setattr(optimizer, "transformers_of", lambda _: towers)
    model.deep = deep
    found = rates(model, layer_decay=0.5)
    for layers, name in ((2, "encoder.encoder.layer"), (4, "deep.encoder.layer")):
        for layer in range(layers):
            (rate,) = {value for key, (value, _) in found.items() if f"{name}.{layer}." in key}
            assert rate == 0.5 ** (layers - 1 - layer)
    with pytest.raises(UserError, match=r"frozen_layers=3: the backbone has 2 layers"), frozen(model, 3):
        pass


def test_layers_that_cannot_be_told_apart_are_refused(model: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALBERT's layers share their weights: freezing its embeddings would freeze everything, and decay do nothing."""
    config = AlbertConfig(
        vocab_size=30, embedding_size=8, hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=2
    )
    monkeypatch.setattr(optimizer, "transformers_of", lambda _: {"document": AlbertModel(config)})
    with pytest.raises(UserError, match=r"frozen_layers=0: the layers of a AlbertModel share"), frozen(model, 0):
        pass
    with pytest.raises(UserError, match=r"training\.layer_decay: the layers of a AlbertModel share"):
        rates(model, layer_decay=0.5)
    rates(model)


def test_frozen_layers_get_no_gradient_and_can_be_trained_again_afterwards(model: ColBERT) -> None:
    """With frozen_layers=1 the embeddings and the lowest of two layers; the others are trained."""
    everything = [name for name, _ in model.named_parameters()]
    with frozen(model, 1):
        still = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("embeddings" in name or ".layer.0." in name for name in still)
    assert any(".layer.1." in name for name in still) and any(name.startswith("projections") for name in still)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == everything
    with pytest.raises(UserError, match=r"training\.frozen_layers=7: the backbone has 2 layers"), frozen(model, 7):
        pass


def test_the_average_follows_its_formula_and_takes_the_weights_place() -> None:
    """A = 4, then weights 8 and 2 with d = 2/11, then 0.2 rather than 3/12."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 4.0)
    average = WeightAverage(0.2)
    average.start(module)
    expected = 4.0
    for weight, decay in ((8.0, 2 / 11), (2.0, 0.2)):
        torch.nn.init.constant_(module.weight, weight)
        average.update(module)
        expected = decay * expected + (1 - decay) * weight
    average.swap(module, is_used=True)
    average.swap(module, is_used=True)  # already used
    assert module.weight.item() == pytest.approx(expected, rel=1e-6)
    average.swap(module, is_used=False)
    assert module.weight.item() == 2.0
    other = WeightAverage(0.2)
    other.load(average.state())
    other.start(module)
    other.swap(module, is_used=True)
    assert module.weight.item() == pytest.approx(expected, rel=1e-6)


def test_gradient_checkpointing_changes_no_bit_of_a_gradient(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """With dropout; the layers' activations are computed twice, and the setting ends with the block."""
    model = SPLADE(backbones["encoder"]).train()
    tokens = model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False)
    calls: list[int] = []
    transformer: Any = model.encoder.base_model
    layer = transformer.encoder.layer[0]
    layer.intermediate.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for is_wanted in (False, True):
        with checkpointed(model, is_wanted):
            torch.manual_seed(4)
            model.zero_grad()
            torch.autograd.backward(model.encode_documents(tokens).vectors_BH.sum())
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert len(calls) == 3
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if not torch.equal(found[0][name], found[1][name])] == []
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_a_large_backbone_with_a_small_ones_learning_rate_gives_a_warning(
    model: ColBERT, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a small backbone, not at 2e-5, and not if nearly all of it is frozen, as with adapters."""
    high, usual = (component("training", learning_rate=rate) for rate in (7e-4, 2e-5))
    warn_of_learning_rate(model, high)
    monkeypatch.setattr(optimizer, "_SMALL", 1000)
    warn_of_learning_rate(model, usual)
    model.encoder.requires_grad_(False)
    warn_of_learning_rate(model, high)
    assert caplog.records == []
    model.encoder.requires_grad_(True)
    with caplog.at_level(logging.WARNING):
        warn_of_learning_rate(model, high)
    assert "training.learning_rate=0.0007 is high" in caplog.text


def test_adamw_8bit_says_what_it_needs(model: ColBERT) -> None:
    """A machine without a GPU cannot run it, whether or not its package is installed."""
    with pytest.raises(UserError, match="optimizer=adamw_8bit needs"):
        adamw_8bit(model.parameters())


def test_a_learned_scale_keeps_its_rate_while_a_search_raises_the_models(model: ColBERT) -> None:
    """Otherwise stage=find_lr would find the rate at which the scale diverges."""
    made = make_optimizer(
        model,
        MarginMSE(learn_scale=True),
        optimizer=partial(torch.optim.SGD, momentum=0.0),
        schedule=lambda step, *, steps: 0.5 if step == 0 else 1000.0,
        training=component("training", learning_rate=2e-5),
        steps=10,
    )
    groups = made["optimizer"].param_groups
    assert [groups[0]["lr"], groups[-1]["lr"]] == [pytest.approx(1e-5), pytest.approx(0.005)]
    made["optimizer"].step()
    made["lr_scheduler"]["scheduler"].step()
    assert [groups[0]["lr"], groups[-1]["lr"]] == [pytest.approx(2e-2), pytest.approx(0.01)]
