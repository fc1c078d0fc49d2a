"""A transformer in int8 computes nearly what it computes in fp32, or is refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import transformers

from irexp.backbone import int8
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.int8 import Int8Transformer, check_int8
from irexp.config.installation import install_command
from irexp.types import UserError
from tests import tiny
from tests.model.architectures import ARCHITECTURES, make_backbone


def batch(texts: int, length: int) -> dict[str, torch.Tensor]:
    """Token ids, and a mask under which the first text has only half of its tokens."""
    mask_BL = torch.ones(texts, length, dtype=torch.int64)
    mask_BL[0, max(1, length // 2) :] = 0
    input_ids_BL = torch.arange(texts * length).reshape(texts, length) % 40 + 6
    return {"input_ids": input_ids_BL, "attention_mask": mask_BL}


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "DistilBERT", "ModernBERT", "DeBERTa-v2", "T5", "Qwen3"])
def test_batches_of_any_shape_are_close_to_fp32(name: str, tmp_path: Path) -> None:
    """Encoders, the encoder of a T5 and decoders; for a single token, and for short and long texts with padding."""
    make_backbone(ARCHITECTURES[name], tmp_path, "AutoModel")
    encoder = HuggingFaceBackbone(str(tmp_path)).load_encoder()
    quantized = Int8Transformer(encoder)
    for shape in ((1, 1), (4, 9), (2, 40)):
        tokens = batch(*shape)
        is_kept_BL = tokens["attention_mask"].bool()
        with torch.no_grad():
            expected = encoder(**tokens).last_hidden_state[is_kept_BL]
            with quantized.in_place():
                found = encoder(**tokens).last_hidden_state[is_kept_BL]
        assert torch.cosine_similarity(found, expected, dim=-1).min() > 0.96  # 0.97 with VNNI, see int8.py
        assert not torch.equal(found, expected)


def test_the_same_transformer_gives_the_same_bits(tmp_path: Path) -> None:
    """Two copies, made one after the other, agree in every bit."""
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path))).load_encoder()
    found = []
    for _ in range(2):
        with Int8Transformer(encoder).in_place():
            found.append(encoder(**batch(3, 7)).last_hidden_state)
    assert torch.equal(*found)


def test_the_transformer_is_left_unchanged(tmp_path: Path) -> None:
    """Its attention, its mode and its results afterwards are those of before, also if an error ends the context."""
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path))).load_encoder()
    before, attention = encoder(**batch(2, 5)).last_hidden_state, encoder.config._attn_implementation
    quantized = Int8Transformer(encoder.train())
    assert encoder.training
    assert encoder.config._attn_implementation == attention
    with pytest.raises(KeyboardInterrupt), quantized.in_place():
        raise KeyboardInterrupt
    assert torch.equal(encoder.train(False)(**batch(2, 5)).last_hidden_state, before)


def test_a_gpu_is_refused() -> None:
    """With what to set instead."""
    with pytest.raises(UserError, match=r"^encoding\.precision=int8 needs a processor.*\(cuda\); set .*bfloat16"):
        check_int8(torch.device("cuda"))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    check_int8(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        check_int8(torch.device("cpu"))
    assert f"needs {package}, not installed" in str(error.value) and install_command("onnx") in str(error.value)


def test_weights_that_are_not_fp32_are_refused(tmp_path: Path) -> None:
    """Half precision is not rounded further; the refusal names the transformer and what to set."""
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path)), dtype="bfloat16").load_encoder()
    with pytest.raises(UserError, match=r"^encoding\.precision=int8: a BertModel cannot .*; set encoding.*bfloat16"):
        Int8Transformer(encoder)


def test_a_copy_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by a bound that no copy reaches: the cosine of a test batch is computed and compared with it."""
    monkeypatch.setattr(int8, "_LEAST_COSINE", 1.01)
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path))).load_encoder()
    with pytest.raises(UserError, match=r"a BertModel cannot be computed in int8 \(a test batch has a cosine of only"):
        Int8Transformer(encoder)


def test_gpt2_whose_weights_are_transposed_is_rounded(tmp_path: Path) -> None:
    """Its products have a form of their own, which the exporter writes with a bias."""
    config = transformers.GPT2Config(vocab_size=len(tiny.WORDS), n_positions=64, n_embd=16, n_layer=2, n_head=2)
    encoder = HuggingFaceBackbone(str(tiny.make(tmp_path, transformers.GPT2Model, config))).load_encoder()
    expected = encoder(**batch(2, 6)).last_hidden_state
    with Int8Transformer(encoder).in_place():
        found = encoder(**batch(2, 6)).last_hidden_state
    assert 1e-4 < (found - expected).abs().max() < 0.5
