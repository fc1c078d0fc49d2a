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
    """A model on the offline backbone, with a seeded projection."""
    torch.manual_seed(3)
    return DenseBiEncoder(TINY, **settings).eval()


def open_dense(folder: Path | str, **settings: Any) -> DenseBiEncoder:
    """Load a checkpoint that must be a dense model."""
    encoder = load(folder, **settings)
    assert isinstance(encoder, DenseBiEncoder)
    return encoder


def test_padding_changes_no_embedding() -> None:
    """A text has the same vector alone as in a batch with longer texts."""
    encoder = model()
    together = encoder.embed_documents(TEXTS)
    alone = np.concatenate([encoder.embed_documents([text]) for text in TEXTS])
    assert_equal_but_for_rounding(together, alone)


def test_scores_are_inner_products_and_the_cosine_is_normalised() -> None:
    """Scores of one query are a row, of several a matrix; the cosine of a text with itself is 1."""
    encoder = model()
    scores = encoder.score(["create a bucket", "list"], TEXTS)
    assert scores.shape == (2, 4)
    torch.testing.assert_close(encoder.score("create a bucket", TEXTS), scores[0])
    assert scores[0, 0].item() == pytest.approx(1.0, abs=1e-5)
    dot = model(similarity="dot")
    query, documents = dot.embed_queries(["list"])[0], dot.embed_documents(TEXTS)
    expected = [float(sum(a * b for a, b in zip(query, document, strict=True))) for document in documents]
    assert dot.score("list", TEXTS).tolist() == pytest.approx(expected, rel=1e-4)


def test_texts_are_truncated_and_no_texts_give_no_vectors() -> None:
    """Tokens after the maximum length change nothing; an empty list gives an array of shape (0, H)."""
    encoder = model(query_length=8, document_length=12)
    assert max(map(len, encoder.tokenize_documents(TEXTS))) == 12
    assert max(map(len, encoder.tokenize_queries(TEXTS))) == 8
    long = "one two three four five six seven eight nine ten eleven twelve "
    np.testing.assert_array_equal(encoder.embed_documents([long + "a"]), encoder.embed_documents([long + "b"]))
    assert encoder.embed_documents([]).shape == (0, 128)
    with pytest.raises(UserError, match=r"model\.document_length=9999: the backbone reads at most 512 tokens"):
        model(document_length=9999)


def test_a_prompt_is_put_in_front_and_can_be_left_out_of_the_pooling() -> None:
    """A prompt changes the vector, and pooling without the prompt's tokens changes it again."""
    plain, prompted = model(), model(query_prompt="query: ")
    left_out = model(query_prompt="query: ", pool_prompt=False)
    assert prompted.tokenize_queries(["list"]) == plain.tokenize_queries(["query: list"])
    vectors = [encoder.embed_queries(["list buckets"])[0] for encoder in (plain, prompted, left_out)]
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    assert not np.allclose(vectors[1], vectors[2], atol=1e-3)


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_an_empty_text_is_pooled_over_its_prompt(backbones: dict[str, HuggingFaceBackbone], pooling: Pooling) -> None:
    """Without special tokens and with `pool_prompt` off there would be nothing to pool, and the vector would be NaN."""
    left_out, pooled = (
        DenseBiEncoder(backbones["decoder"], pooling=pooling, query_prompt="list a queue", pool_prompt=pool_prompt)
        for pool_prompt in (False, True)
    )
    vectors = left_out.embed_queries(["", "stop"])
    assert_equal_but_for_rounding(vectors[0], pooled.embed_queries([""])[0])
    assert np.isfinite(vectors).all()


def test_two_towers_share_nothing() -> None:
    """With a separate query backbone, changing the query encoder's weights does not change document vectors."""
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
def test_a_saved_model_has_the_same_embeddings_in_sentence_transformers(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Embeddings are equal in irexp, in sentence-transformers, and after loading the folder that either saved."""
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


def test_two_towers_survive_saving(tmp_path: Path) -> None:
    """Each side keeps its own modules and length."""
    ours = model(query_backbone=TINY, projection_dim=8, query_length=32, document_length=64)
    save(ours, tmp_path)
    opened = open_dense(tmp_path)
    assert isinstance(opened, DenseBiEncoder)
    assert opened.has_two_towers
    assert (opened.query_length, opened.document_length) == (32, 64)
    assert_equal_but_for_rounding(opened.embed_queries(TEXTS), ours.embed_queries(TEXTS))


def test_two_towers_saved_in_two_folders_load(tmp_path: Path) -> None:
    """The layout from before irexp wrote a Router still loads."""
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


def test_a_bare_transformer_loads_with_mean_pooling(tmp_path: Path) -> None:
    """Its embeddings equal those of sentence-transformers, which pools by the mean, too, up to the same length."""
    from sentence_transformers import SentenceTransformer

    folder = TINY.location()[0]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (Path(folder) / name).is_file():
            shutil.copy(Path(folder) / name, tmp_path)
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert_equal_but_for_rounding(open_dense(tmp_path).embed_documents(TEXTS), expected)


def test_an_invalid_checkpoint_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Refused: an empty folder, a missing folder, an unsupported module, a missing weights file."""
    with pytest.raises(UserError, match="is not a checkpoint: it has none of"):
        open_dense(tmp_path)
    with pytest.raises(UserError, match=r"there is no folder .*elsewhere"):
        open_dense(tmp_path / "elsewhere")
    save(model(projection_dim=4), tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([*modules[:-1], {**modules[-1], "type": "pylate.LSTM"}]))
    with pytest.raises(UserError, match=r"the module LSTM in .* is not supported"):
        open_dense(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"there is neither model\.safetensors nor pytorch_model\.bin"):
        open_dense(tmp_path)


def test_a_backbone_with_weights_missing_is_refused(tmp_path: Path) -> None:
    """Missing weights are an error, rather than randomly drawn layers."""
    save(model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"lacks 16 weights of BertModel"):
        HuggingFaceBackbone(str(tmp_path)).load_encoder()
