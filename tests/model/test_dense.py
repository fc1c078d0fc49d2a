"""Dense bi-encoders: embeddings, scores, and the sentence-transformers layout in both directions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.dense import DenseBiEncoder
from irexp.model.pooling import Pooling
from irexp.types import UserError
from tests.rounding import assert_equal_but_for_rounding

TINY = instantiate(OmegaConf.load(Path(__file__).parents[2] / "conf" / "backbone" / "splade_tiny.yaml"))
TEXTS = ["create a bucket", "", "list all the objects of a bucket, with their sizes " * 30, "Ünïcödé 京都 🙂"]


def model(**settings: Any) -> DenseBiEncoder:
    """The offline backbone under settings, its projection drawn by a seed."""
    torch.manual_seed(3)
    return DenseBiEncoder(TINY, **settings).eval()


def open_dense(folder: Path | str, **settings: Any) -> DenseBiEncoder:
    """A checkpoint that must turn out to be a dense model."""
    encoder = load(folder, **settings)
    assert isinstance(encoder, DenseBiEncoder)
    return encoder


def test_padding_changes_no_embedding() -> None:
    """A text alone and beside a longer one has the same vector."""
    encoder = model()
    together = encoder.embed_documents(TEXTS)
    alone = np.concatenate([encoder.embed_documents([text]) for text in TEXTS])
    assert_equal_but_for_rounding(together, alone)


def test_scores_are_the_inner_products_and_cosine_is_normalised() -> None:
    """One query gives a row, several a matrix; the cosine of a text with itself is 1."""
    encoder = model()
    scores = encoder.score(["create a bucket", "list"], TEXTS)
    assert scores.shape == (2, 4)
    torch.testing.assert_close(encoder.score("create a bucket", TEXTS), scores[0])
    assert scores[0, 0].item() == pytest.approx(1.0, abs=1e-5)
    dot = model(similarity="dot")
    query, documents = dot.embed_queries(["list"])[0], dot.embed_documents(TEXTS)
    expected = [float(sum(a * b for a, b in zip(query, document, strict=True))) for document in documents]
    assert dot.score("list", TEXTS).tolist() == pytest.approx(expected, rel=1e-4)


def test_lengths_cut_and_no_texts_are_no_vectors() -> None:
    """Of a long text so many tokens are read, and what is behind them changes nothing."""
    encoder = model(query_length=8, document_length=12)
    assert max(map(len, encoder.tokenize_documents(TEXTS))) == 12
    assert max(map(len, encoder.tokenize_queries(TEXTS))) == 8
    long = "one two three four five six seven eight nine ten eleven twelve "
    np.testing.assert_array_equal(encoder.embed_documents([long + "a"]), encoder.embed_documents([long + "b"]))
    assert encoder.embed_documents([]).shape == (0, 128)
    with pytest.raises(UserError, match=r"model\.document_length=9999: the backbone reads 512 tokens at most"):
        model(document_length=9999)


def test_prompts_stand_in_front_and_may_be_left_out_of_the_pooling() -> None:
    """A prompt changes the vector; without its tokens in the mean it is another one again."""
    plain, prompted = model(), model(query_prompt="query: ")
    left_out = model(query_prompt="query: ", pool_prompt=False)
    assert prompted.tokenize_queries(["list"]) == plain.tokenize_queries(["query: list"])
    vectors = [encoder.embed_queries(["list buckets"])[0] for encoder in (plain, prompted, left_out)]
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    assert not np.allclose(vectors[1], vectors[2], atol=1e-3)


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_a_text_that_is_all_prompt_has_a_vector(backbones: dict[str, HuggingFaceBackbone], pooling: Pooling) -> None:
    """Where the tokenizer adds nothing and the prompt is not pooled, an empty text is pooled over its prompt."""
    left_out, pooled = (
        DenseBiEncoder(backbones["decoder"], pooling=pooling, query_prompt="list a queue", pool_prompt=pool_prompt)
        for pool_prompt in (False, True)
    )
    vectors = left_out.embed_queries(["", "stop"])
    assert_equal_but_for_rounding(vectors[0], pooled.embed_queries([""])[0])
    assert np.isfinite(vectors).all()


def test_two_towers_share_nothing() -> None:
    """With a query backbone of its own, training one side leaves the other."""
    encoder = model(query_backbone=TINY)
    before = encoder.embed_documents(TEXTS)
    with torch.no_grad():
        for parameter in encoder.query_tower.parameters():
            parameter.mul_(1.5)
    np.testing.assert_array_equal(encoder.embed_documents(TEXTS), before)
    assert len({id(p) for p in encoder.parameters()}) == 2 * len(list(encoder.document_tower.parameters()))


SETTINGS: list[dict[str, Any]] = [
    *({"pooling": pooling} for pooling in get_args(Pooling)),
    {"projection_dim": 16, "projection_activation": "Tanh"},
    {"projection_dim": 16, "projection_bias": False, "similarity": "dot"},
    {"query_prompt": "query: ", "document_prompt": "passage: "},
    {"query_prompt": "query: ", "document_prompt": "passage: ", "pool_prompt": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_sentence_transformers_opens_what_is_saved_and_gives_equal_embeddings(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Their encoder and ours, ours reloaded, theirs saved again and opened here: one set of numbers."""
    from sentence_transformers import SentenceTransformer

    ours = model(document_length=64, query_length=64, **settings)
    save(ours, tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    query, documents = ours.embed_queries(TEXTS), ours.embed_documents(TEXTS)
    assert_equal_but_for_rounding(theirs.encode_query(TEXTS), query)
    assert_equal_but_for_rounding(theirs.encode_document(TEXTS), documents)
    theirs.save(str(tmp_path / "theirs"))
    for folder in (tmp_path, tmp_path / "theirs"):
        opened = open_dense(folder, query_length=64, document_length=64)
        assert_equal_but_for_rounding(opened.embed_queries(TEXTS), query)
        assert_equal_but_for_rounding(opened.embed_documents(TEXTS), documents)


def test_two_towers_come_back(tmp_path: Path) -> None:
    """Each side with its own modules and length."""
    ours = model(query_backbone=TINY, projection_dim=8, query_length=32, document_length=64)
    save(ours, tmp_path)
    opened = open_dense(tmp_path)
    assert isinstance(opened, DenseBiEncoder)
    assert opened.has_two_towers
    assert (opened.query_length, opened.document_length) == (32, 64)
    assert_equal_but_for_rounding(opened.embed_queries(TEXTS), ours.embed_queries(TEXTS))


def test_two_towers_in_two_folders_come_back(tmp_path: Path) -> None:
    """How they were written before there was a Router."""
    sides = {"query": model(query_length=32), "document": model(pooling="mean", document_length=64)}
    with torch.no_grad():
        for parameter in sides["query"].parameters():
            parameter.mul_(1.5)
    for side, tower in sides.items():
        save(tower, tmp_path / side)
    settings = {"family": "dense", "name": "dpr", "query_length": 32, "document_length": 64, "two_towers": True}
    (tmp_path / "irexp.json").write_text(json.dumps(settings))
    opened = open_dense(tmp_path)
    assert_equal_but_for_rounding(opened.embed_queries(TEXTS), sides["query"].embed_queries(TEXTS))
    assert_equal_but_for_rounding(opened.embed_documents(TEXTS), sides["document"].embed_documents(TEXTS))


def test_a_plain_transformer_opens_with_mean_pooling(tmp_path: Path) -> None:
    """As in sentence-transformers, which says so in its log, and up to its length."""
    from sentence_transformers import SentenceTransformer

    folder = TINY.location()[0]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (Path(folder) / name).is_file():
            shutil.copy(Path(folder) / name, tmp_path)
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert_equal_but_for_rounding(open_dense(tmp_path).embed_documents(TEXTS), expected)


def test_what_is_no_checkpoint_says_why(tmp_path: Path) -> None:
    """An empty folder, a path that is not there, a module that is not understood, a weight that is missing."""
    with pytest.raises(UserError, match="is no checkpoint: it has none of"):
        open_dense(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        open_dense(tmp_path / "elsewhere")
    save(model(projection_dim=4), tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([*modules[:-1], {**modules[-1], "type": "x.LSTM"}]))
    with pytest.raises(UserError, match=r"the module LSTM in .* is not understood"):
        open_dense(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"there is neither model\.safetensors nor pytorch_model\.bin"):
        open_dense(tmp_path)


def test_a_backbone_with_weights_missing_is_refused(tmp_path: Path) -> None:
    """Layers that were drawn at random must not pass for a checkpoint."""
    save(model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"lacks 16 weights of BertModel"):
        HuggingFaceBackbone(str(tmp_path)).load_encoder()
