"""A transformer in bfloat16 computes nearly what it computes in fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irexp.backbone.half import in_bfloat16, replaced_module
from irexp.backbone.hugging_face import HuggingFaceBackbone
from tests import tiny
from tests.backbone.test_int8 import batch
from tests.model.architectures import ARCHITECTURES, make_backbone


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "DistilBERT", "ModernBERT", "DeBERTa-v2", "T5", "Qwen3"])
def test_vectors_are_close_to_fp32(name: str, tmp_path: Path) -> None:
    """With padding, and also inside an autocast; the results are in bfloat16 throughout, and not those of autocast."""
    make_backbone(ARCHITECTURES[name], tmp_path, "AutoModel")
    encoder = HuggingFaceBackbone(str(tmp_path)).load_encoder()
    tokens = batch(4, 9)
    kept_BL = tokens["attention_mask"].bool()
    with torch.no_grad():
        expected = encoder(**tokens).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            autocast = encoder(**tokens).last_hidden_state
            found = in_bfloat16(encoder)(**tokens).last_hidden_state
        assert torch.equal(encoder(**tokens).last_hidden_state, expected)
    assert found.dtype == torch.bfloat16 and not torch.equal(found.float(), autocast.float())
    assert torch.cosine_similarity(found.float(), expected, dim=-1)[kept_BL].min() > 0.99


def test_a_transformer_in_another_precision_stays_as_it_is(tmp_path: Path) -> None:
    """Its weights have been rounded already, to bfloat16 or to four bits."""
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path)), dtype="bfloat16").load_encoder()
    assert in_bfloat16(encoder) is encoder


@pytest.mark.parametrize("name", ["ModernBERT", "Qwen3"])
def test_rotary_positions_are_not_rounded(name: str, tmp_path: Path) -> None:
    """As where transformers loads the weights in bfloat16, which computes the same bits."""
    make_backbone(ARCHITECTURES[name], tmp_path, "AutoModel")
    half = in_bfloat16(HuggingFaceBackbone(str(tmp_path)).load_encoder())
    loaded = HuggingFaceBackbone(str(tmp_path), dtype="bfloat16").load_encoder()
    kinds = {key: value.dtype for key, value in loaded.named_buffers()}
    assert torch.float32 in kinds.values()
    assert {key: value.dtype for key, value in half.named_buffers()} == kinds
    with torch.no_grad():
        found, expected = (encoder(**batch(2, 60)).last_hidden_state for encoder in (half, loaded))
    assert torch.equal(found, expected)


def test_a_model_has_the_copy_within_the_context_alone(tmp_path: Path) -> None:
    """Wherever it has the transformer; also if an error ends the context."""
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path))).load_encoder()
    model = torch.nn.Sequential(encoder, torch.nn.ModuleList([encoder]))
    half = in_bfloat16(encoder)

    def count(wanted: torch.nn.Module) -> int:
        return sum(module is wanted for _, module in model.named_modules(remove_duplicate=False))

    with pytest.raises(KeyboardInterrupt), replaced_module(model, encoder, half):
        assert (count(half), count(encoder)) == (2, 0)
        raise KeyboardInterrupt
    assert (count(half), count(encoder)) == (0, 2)
