"""Weights of 4 bits below adapters: refused without a GPU, and merged into the float weights that were trained with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from irexp.backbone import backbone as loading
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.quantization import is_quantised, options_on
from irexp.model.dense import DenseBiEncoder
from irexp.model.load import load, save
from irexp.model.lora import add_lora, merge
from irexp.pipeline.component import component
from irexp.types import UserError
from tests import tiny


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_quantised_weights_are_refused_without_a_gpu(folders: dict[str, Path]) -> None:
    """In one line, before anything is read."""
    with pytest.raises(UserError, match=r"^backbone\.quantization=nf4 needs an NVIDIA GPU[^\n]*$"):
        HuggingFaceBackbone(str(folders["decoder"]), quantization="nf4").load_encoder()


@pytest.mark.filterwarnings("ignore")
def test_the_merged_model_scores_as_the_trained_one(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of the adapters; the saved checkpoint holds float weights and needs no bitsandbytes."""
    pytest.importorskip("bitsandbytes")

    def on_processor(dtype: str) -> dict[str, Any]:
        return options_on(torch.device("cpu"), dtype)

    monkeypatch.setattr(loading, "quantised_options", on_processor)
    place = shutil.copytree(folders["decoder"], tmp_path / "wide")
    config: Any = AutoConfig.from_pretrained(place)
    config.hidden_size = config.intermediate_size = 128  # what bitsandbytes can multiply
    config.head_dim = 128 // config.num_attention_heads
    torch.manual_seed(1)
    AutoModel.from_config(config).save_pretrained(place)  # type: ignore[no-untyped-call]
    model = DenseBiEncoder(HuggingFaceBackbone(str(place), quantization="nf4"), pooling="last").eval()
    encoder = model.document_tower.encoder
    assert is_quantised(encoder)
    add_lora(model, component("adapter", "lora", target_modules="all-linear"))
    frozen = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name, _ in trained)
    torch.manual_seed(0)
    for _, parameter in trained:
        torch.nn.init.normal_(parameter, std=0.2)
    scores = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    assert not torch.allclose(scores, frozen, atol=1e-2)
    merge(model)
    assert not is_quantised(encoder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model.score(tiny.QUERIES, tiny.DOCUMENTS), scores, rtol=1e-3, atol=1e-3)
    save(model, tmp_path / "saved")
    torch.testing.assert_close(
        load(tmp_path / "saved").score(tiny.QUERIES, tiny.DOCUMENTS), scores, rtol=1e-3, atol=1e-3
    )
