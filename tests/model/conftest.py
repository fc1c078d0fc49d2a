"""Transformers of several tests of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny BERTs that read 512 tokens, more than any default length."""
    heads = {"plain": "BertModel", "masked": "BertForMaskedLM", "classifier": "BertForSequenceClassification"}
    return {
        kind: tiny.long_bert(tmp_path_factory.mktemp(kind), head, num_labels=1 if kind == "classifier" else 2)
        for kind, head in heads.items()
    }
