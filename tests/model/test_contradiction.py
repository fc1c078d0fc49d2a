"""A configuration of a given checkpoint: what the files leave open it decides, what it contradicts is said."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from irexp import load, new_model, save
from irexp.model.dense import DenseBiEncoder
from irexp.model.splade import SPLADE
from tests import tiny

TEXT = "how to make a cup"


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "sum"},
        {"activation": "log1p_log1p"},
        {"max_active_dims": 3},
        {"query_prompt": "list "},
        {"document_prompt": "list "},
        {"query_encoding": "binary"},
    ],
)
def test_a_bare_masked_language_model_is_the_configured_splade(tmp_path: Path, settings: dict[str, Any]) -> None:
    """As a new model of the same settings; otherwise settings of a sweep would change the label alone."""
    folder = tiny.bert(tmp_path, "BertForMaskedLM")
    expected = new_model("splade", backbone=str(folder), query_length=24, document_length=24, **settings)
    like: Any = partial(SPLADE, **settings)
    found = load(folder, like=like, query_length=24, document_length=24)
    torch.testing.assert_close(found.score("list the cup", [TEXT]), expected.score("list the cup", [TEXT]))
    like = partial(SPLADE)
    other = load(folder, like=like, query_length=24, document_length=24).score("list the cup", [TEXT])
    assert not torch.allclose(other, found.score("list the cup", [TEXT]))


def test_settings_that_the_checkpoint_contradicts_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The checkpoint's are used; equal settings, and none, are not mentioned."""
    model = new_model("sbert", backbone=str(tiny.bert(tmp_path / "bert")), pooling="mean")
    save(model, tmp_path / "model")
    like: Any = partial(DenseBiEncoder, pooling="mean", query_prompt="")
    load(tmp_path / "model", like=like)
    assert not caplog.records
    like = partial(DenseBiEncoder, pooling="cls")
    found = load(tmp_path / "model", like=like)
    assert "not those of the configuration: pooling 'mean', not model.pooling='cls'" in caplog.text
    torch.testing.assert_close(found.score("list", [TEXT]), model.score("list", [TEXT]))
