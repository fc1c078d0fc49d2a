"""Settings of Lightning IR's folders are applied, or refused by name; test_checkpoints.py compares their scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from irexp import load, save
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.linear_mono import LinearMono
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.types import UserError

FIXTURES = Path(__file__).parents[1] / "data" / "checkpoint"

FAMILIES: dict[str, type[Any]] = {
    "lir_dpr": DenseBiEncoder,
    "lir_splade": SPLADE,
    "lir_splade_static": SPLADE,
    "lir_col": ColBERT,
    "lir_mono": LinearMono,
    "lir_modernbert": DenseBiEncoder,
    "lir_llama": DenseBiEncoder,
    "lir_unigram": DenseBiEncoder,
    "set_encoder": SetEncoder,
    "set_encoder_extra_token": SetEncoder,
}


def copied(name: str, folder: Path, **changes: Any) -> Path:
    """A copy of a folder, with changed settings."""
    shutil.copytree(FIXTURES / name, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | changes), encoding="utf8")
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_loads_as_its_family_and_keeps_its_scores_when_saved(name: str, tmp_path: Path) -> None:
    """Class and lengths are those of config.json; after saving in irexp's format the scores are the recorded ones."""
    model = load(FIXTURES / name)
    assert type(model) is FAMILIES[name]
    config = json.loads((FIXTURES / name / "config.json").read_text(encoding="utf8"))
    special = 2 if name == "lir_splade_static" else 0  # queries have no special tokens there
    assert (model.query_length, model.document_length) == (config["query_length"] + special, config["doc_length"])
    recorded = json.loads((FIXTURES / name / "scores.json").read_text(encoding="utf8"))
    save(model, tmp_path)
    found = load(tmp_path).score(recorded["queries"], recorded["documents"]).numpy()
    np.testing.assert_allclose(found, recorded["scores"], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "lir_dpr",
            {"pooling_strategy": "sum"},
            "pooling_strategy='sum' is not supported; supported: 'first', 'me",
        ),
        ("lir_dpr", {"similarity_function": "l2"}, "similarity_function='l2' .* supported: 'dot', 'cosine'"),
        ("lir_dpr", {"sparsification_strategy": "relu"}, "sparsification_strategy='relu'"),
        ("lir_dpr", {"use_adapter": True}, "use_adapter=True"),
        ("lir_splade", {"query_expansion": False}, "query_expansion=False"),
        ("lir_splade", {"doc_weighting": None}, "doc_weighting=None"),
        (
            "lir_splade",
            {"backbone_model_type": "distilbert"},
            "the head of a distilbert is not supported; supported: bert",
        ),
        ("lir_col", {"normalization_strategy": None}, "token vectors that are not normalised is not supported"),
        ("lir_col", {"doc_expansion": True}, "doc_expansion=True"),
        ("lir_mono", {"_bert_pool": True}, "_bert_pool=True"),
        ("lir_mono", {"backbone_model_type": "future"}, "Unrecognized model identifier: future"),
        (
            "lir_mono",
            {"model_type": "mvr"},
            "Lightning IR's mvr is not supported; supported: lir-dpr, splade, col, mono, set-en",
        ),
        ("set_encoder", {"linear_bias": True}, "linear_bias=True"),
        ("set_encoder", {"_bert_pool": True}, "_bert_pool=True"),
        ("set_encoder", {"scoring_strategy": "mono"}, "scoring_strategy='mono' is not supported; supported: 'rank'"),
    ],
)
def test_unsupported_settings_are_refused_by_name(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """The error names the setting, its value and the supported values."""
    with pytest.raises(UserError, match=message):
        load(copied(name, tmp_path / "folder", **changes))


def test_settings_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """The old names give the same scores; different poolings per side are refused."""
    expected = load(FIXTURES / "lir_dpr").score("stop", ["stop instances", "a queue"])
    folder = copied("lir_dpr", tmp_path / "old", query_pooling_strategy="mean", doc_pooling_strategy="mean")
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config.pop("pooling_strategy")
    (folder / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(load(folder).score("stop", ["stop instances", "a queue"]), expected)
    (folder / "config.json").write_text(json.dumps(config | {"doc_pooling_strategy": "max"}))
    with pytest.raises(UserError, match="different poolings for queries and documents are not supported"):
        load(folder)


@pytest.mark.parametrize("name", ["lir_splade", "lir_mono", "lir_col"])
def test_a_missing_weight_is_named(name: str, tmp_path: Path) -> None:
    """A missing weight is an error, rather than a randomly drawn layer."""
    folder = copied(name, tmp_path / "folder")
    state = load_file(folder / "model.safetensors")
    lost = next(
        key for key in state if key.endswith("dense.weight" if name == "lir_splade" else "layer.0.output.dense.bias")
    )
    state.pop(lost)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lacks 1 weights"):
        load(folder)


@pytest.mark.parametrize("weighting", [None, "static"])
def test_each_word_of_a_query_without_an_encoder_counts(weighting: str | None, tmp_path: Path) -> None:
    """Unknown words and typed special tokens, too, as in Lightning IR; without a weighting each counts once."""
    model = load(copied("lir_splade_static", tmp_path / "folder", query_weighting=weighting))
    assert isinstance(model, SPLADE) and model.static_weights is not None
    tokens = model.pad(model.tokenize_documents(["list \u65e5 a"]), is_query=False)
    (document_V,) = model.eval().encode_documents(tokens).vectors_BH.detach()
    own = set(model.tokenizer("list \u65e5 [SEP] list buckets", add_special_tokens=False)["input_ids"])
    assert {1, 3} < own
    weights = model.static_weights.detach() if weighting else torch.ones(model.embedding_dim)
    expected = sum(float(weights[word] * document_V[word]) for word in own)
    assert model.score("list \u65e5 [SEP] list buckets", ["list \u65e5 a"]).item() == pytest.approx(expected, rel=1e-4)


def test_a_length_of_null_or_above_the_maximum_is_the_encoders_maximum(tmp_path: Path) -> None:
    """Lightning IR does not truncate then, while irexp's default would."""
    model = load(copied("lir_dpr", tmp_path / "folder", doc_length=None, query_length=512))
    assert (model.query_length, model.document_length) == (64, 64)
