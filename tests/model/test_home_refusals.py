"""Settings of sentence-transformers' folders that would change the scores if they were ignored: refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from irexp import load
from irexp.types import UserError
from tests import tiny
from tests.home import dense, edit

Folders = dict[str, Path]

Change = Callable[[Path], None]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("plain", lambda f: edit(f / "config_sentence_transformers.json", similarity_fn_name="euclidean"), "euclidean"),
        ("plain", lambda f: edit(f / "sentence_bert_config.json", processing_kwargs={"text": {}}), "processing_kwargs"),
        ("plain", lambda f: (f / "modules.json").write_text("{}"), "is not a list of modules"),
        ("plain", lambda f: (f / "modules.json").write_text("[]"), "is not a list of modules"),
        ("plain", lambda f: (f / "modules.json").write_text('[{"path": ""}]'), "is not a list of modules"),
        (
            "plain",
            lambda f: (f / "modules.json").write_text(
                '[{"type": "sentence_transformers.models.Transformer", "path": null},'
                ' {"type": "sentence_transformers.models.Normalize"}]'
            ),
            "no P",
        ),
        ("plain", lambda f: (f / "model.safetensors").write_bytes(b"0123456789"), "cannot be read as a AutoModel"),
        ("plain", lambda f: edit(f / "config.json", vocab_size=50), r"has the shape \(119, 16\), but"),
        ("masked", lambda f: edit(f / "config_sentence_transformers.json", similarity_fn_name="cosine"), "'cosine'"),
    ],
)
def test_unsupported_settings_and_damaged_files_are_refused_by_name(
    kind: str, change: Change, message: str, long: Folders, tmp_path: Path
) -> None:
    """Ignoring such a setting would silently change the scores."""
    home = SparseEncoder if kind == "masked" else SentenceTransformer
    home(str(long[kind]), device="cpu").save(str(tmp_path))
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_modules_in_an_unsupported_order_are_refused_by_name(long: Folders, tmp_path: Path) -> None:
    """Refused: a Dense before the Pooling, truncation after normalisation, a Dense in a cross-encoder."""
    tokens: dict[str, Any] = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    modules = [Transformer(str(long["plain"])), Dense(16, 8, **tokens), Pooling(8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "order"))
    with pytest.raises(UserError, match=r"the module Pooling in .* is not supported there in a dense model"):
        load(tmp_path / "order")
    modules = dense(long["plain"], Normalize())
    SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot").save(str(tmp_path / "cut"))
    edit(tmp_path / "cut" / "config_sentence_transformers.json", truncate_dim=4)
    with pytest.raises(UserError, match="truncate_dim=4 is not supported for vectors that are normalised before"):
        load(tmp_path / "cut")
    modules = [*dense(long["plain"], pooling="cls"), Dense(16, 1, module_output_name="scores")]
    CrossEncoder(modules=modules, device="cpu").save(str(tmp_path / "pair"))
    with pytest.raises(UserError, match="Transformer, Pooling, Dense are not supported in a cross-encoder"):
        load(tmp_path / "pair")


def test_weights_per_word_after_an_encoder_are_refused(long: Folders, tmp_path: Path) -> None:
    """Only weights of one are the lexical encoding; others would be ignored."""
    transformer = Transformer(str(long["masked"]), transformer_task="fill-mask")
    static = SparseStaticEmbedding(transformer.tokenizer, weight=torch.rand(len(tiny.WORDS)))
    SparseEncoder(modules=[transformer, SpladePooling(), static], device="cpu").save(str(tmp_path))
    with pytest.raises(UserError, match="weights per word after an encoder are only supported if all are 1"):
        load(tmp_path)
