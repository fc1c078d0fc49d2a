"""A transformer in bfloat16 computes nearly what it computes in fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irexp.backbone.half import in_bfloat16
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
            with in_bfloat16(encoder):
                found = encoder(**tokens).last_hidden_state
        assert torch.equal(encoder(**tokens).last_hidden_state, expected)
    assert found.dtype == torch.bfloat16 and not torch.equal(found.float(), autocast.float())
    assert torch.cosine_similarity(found.float(), expected, dim=-1)[kept_BL].min() > 0.99


def test_a_transformer_in_another_precision_stays_as_it_is(tmp_path: Path) -> None:
    """Its weights have been rounded already, to bfloat16 or to four bits."""
    encoder = HuggingFaceBackbone(str(tiny.bert(tmp_path)), dtype="bfloat16").load_encoder()
    with in_bfloat16(encoder):
        assert "forward" not in vars(encoder)
