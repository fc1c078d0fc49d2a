"""Weights of 4 bits below adapters: only while these are trained, and nothing that is saved is rounded to 4 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.dense import DenseBiEncoder
from irexp.model.load import load
from irexp.model.lora import add_lora
from irexp.pipeline.component import component
from irexp.training.quantization import check_quantization, quantised
from irexp.types import UserError
from tests import tiny
from tests.trainings import Compose, fit, weights

#: The settings that ask for 4 bits.
FOUR_BITS: Any = component("training", quantization="4bit")

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra bitsandbytes is not installed"
)


def with_adapters(folder: Path, *, fan_in_fan_out: bool = False) -> DenseBiEncoder:
    """An encoder with adapters of the layers that peft chooses; GPT-2 keeps its weights transposed."""
    model = DenseBiEncoder(HuggingFaceBackbone(str(folder))).eval()
    add_lora(model, component("adapter", "lora", fan_in_fan_out=fan_in_fan_out))
    return model


@needs_bitsandbytes
def test_only_frozen_layers_have_four_bits_and_only_within_the_block(tmp_path: Path) -> None:
    """Scores change by rounding within the block, and by no bit after it; adapters get gradients within it."""
    model = with_adapters(tiny.bert(tmp_path, "BertModel", hidden_size=64, intermediate_size=128))
    kinds = {name: type(module) for name, module in model.named_modules()}
    before = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    with quantised(model, FOUR_BITS, torch.device("cpu")):
        changed = {name for name, module in model.named_modules() if type(module) is not kinds[name]}
        assert changed == {n for n, kind in kinds.items() if kind is nn.Linear and "lora_" not in n}
        within = model.score(tiny.QUERIES, tiny.DOCUMENTS)
        tokens = model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False)
        torch.autograd.backward(model.encode_documents(tokens).vectors_BH.sum())
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert trained and all(parameter.grad is not None for parameter in trained)
    assert 1e-4 < float((within - before).abs().max()) < 0.2
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert torch.equal(model.score(tiny.QUERIES, tiny.DOCUMENTS), before)


@needs_bitsandbytes
def test_adapters_are_merged_into_the_original_weights(compose: Compose, tmp_path: Path) -> None:
    """What was not adapted has no other bit; the checkpoint scores as the adapters on the original backbone do."""
    more = ("model=sbert", "adapter=lora", "dataset.query_length=8", "dataset.document_length=24")
    fit(compose, tmp_path / "start", *more, "training.steps=0")
    fit(compose, tmp_path / "whole", *more)
    fit(compose, tmp_path / "trained", *more, "training.quantization=4bit")
    start, whole, trained = (weights(tmp_path / name) for name in ("start", "whole", "trained"))
    moved = {name for name in start if not torch.equal(trained[name], start[name])}
    assert moved == {name for name in start if not torch.equal(whole[name], start[name])}
    assert moved and any(not torch.equal(trained[name], whole[name]) for name in moved)
    opened, adapted = load(tmp_path / "trained"), load(tmp_path / "trained" / "adapter")
    torch.testing.assert_close(opened.score("red cups", ["a cup"]), adapted.score("red cups", ["a cup"]))
    saved = torch.load(tmp_path / "trained" / ".training" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved and all("lora_" in name for name in saved)


@pytest.mark.parametrize(
    ("kind", "devices", "adapter", "message"),
    [
        ("4bit", 1, None, "cannot be trained, only adapters on top of them; set adapter=lora"),
        ("4bit", 2, "lora", "trains on one device; set machine.devices=1"),
    ],
)
def test_a_quantization_that_cannot_be_had_is_refused(
    kind: str, devices: int, adapter: str | None, message: str, folders: dict[str, Path]
) -> None:
    """In one line, before anything is quantised."""
    model = DenseBiEncoder(HuggingFaceBackbone(str(folders["encoder"])))
    if adapter is not None:
        add_lora(model, component("adapter", adapter))
    with pytest.raises(UserError, match=message) as error:
        check_quantization(model, component("training", quantization=kind), devices=devices)
    assert "\n" not in str(error.value)


def test_quantization_without_its_package_says_what_installs_it(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command for a clone."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package bitsandbytes: pip install .*\[bitsandbytes\]"):
        check_quantization(with_adapters(folders["encoder"]), FOUR_BITS, devices=1)


@needs_bitsandbytes
def test_a_backbone_without_linear_layers_of_torch_is_refused(tmp_path: Path) -> None:
    """GPT-2 has layers of another kind, which bitsandbytes does not quantise."""
    config = transformers.GPT2Config(vocab_size=len(tiny.WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    config.bos_token_id = config.eos_token_id = None
    model = with_adapters(tiny.make(tmp_path, transformers.GPT2Model, config), fan_in_fan_out=True)
    with pytest.raises(UserError, match="a GPT2Model has no frozen linear layers of torch to quantise"):
        check_quantization(model, FOUR_BITS, devices=1)
