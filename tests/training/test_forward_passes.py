"""A training step computes few tokens per forward pass where that is faster."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from irexp.model import device
from irexp.model.dense import DenseBiEncoder
from irexp.types import Embeddings, Tokens
from tests import tiny
from tests.trainings import Compose, fit, write_toys


@pytest.mark.parametrize(
    ("wide", "settings", "passes"), [(17, (), 1), (16, (), 3), (16, ("machine.forward_tokens=1000",), 1)]
)
def test_a_wide_model_is_trained_in_passes_of_few_tokens(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: int, settings: tuple[str, ...], passes: int
) -> None:
    """From the given width on, unless machine.forward_tokens says otherwise; the model has 16 dimensions."""
    for name, value in (("WIDE", wide), ("FEWEST_TOKENS", 24), ("PROCESSOR_VALUES", 24 * 16)):
        monkeypatch.setattr(device, name, value)
    batches: list[int] = []

    def counted(self: DenseBiEncoder, tokens: Tokens) -> Embeddings:
        if torch.is_grad_enabled():
            batches.append(len(tokens.input_ids_BL))
        return encode(self, tokens)

    encode = DenseBiEncoder.encode_documents
    monkeypatch.setattr(DenseBiEncoder, "encode_documents", counted)
    more = ["backbone=hugging_face", f"backbone.name_or_path={tiny.bert(tmp_path / 'bert')}", "machine=cpu"]
    more += ["dataset=local", f"dataset.path={write_toys(tmp_path / 'toys')}", "training.validate_every=null"]
    fit(compose, tmp_path / "run", *more, "training.steps=1", "training.batch_size=5", *settings)
    assert (len(batches), sum(batches)) == (passes, 5)
