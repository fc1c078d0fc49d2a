"""What holds for every family: no score depends on padding or on the batch; every key of the configuration works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from irexp.config.check import check
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.types import UserError
from tests import tiny

CONF = Path(__file__).parents[2] / "conf"
FAMILIES = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem not in ("bm25", "fusion"))

Compose = Callable[..., DictConfig]

LONG = "create a bucket, stop all instances and list the queue of an instance (with a name): all of it. " * 2


def kind_of(family: str) -> str:
    """The kind of transformer that a family is made of."""
    if family.endswith("t5"):
        return "t5"
    return "decoder" if family in ("mono_decoder", "repllama", "qwen3_embedding") else "encoder"


def made(compose: Compose, folders: dict[str, Path], family: str, *overrides: str) -> Model:
    """The model of a configuration, its new layers drawn by a seed."""
    backbone = ("backbone=hugging_face", f"backbone.name_or_path={folders[kind_of(family)]}")
    lengths: tuple[str, ...] = ("model.query_length=null", "model.document_length=null")
    if family == "mono_decoder":
        lengths = ("model.template='Query {query} Document {document} Relevant'", *lengths)
    if family == "qwen3_embedding":
        lengths = ("model.query_prompt='Query '", *lengths)
    config = compose(f"model={family}", *backbone, *lengths, *overrides)
    check(config)
    torch.manual_seed(7)
    model: Model = instantiate(config.model, _convert_="object")()
    return model.eval()


def test_every_family_is_seen() -> None:
    """The parametrisations below are over conf/model."""
    assert len(FAMILIES) >= 16


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_comes_with_a_backbone_that_it_can_be_made_of(family: str, compose: Compose) -> None:
    """A decoder where its name says so, whatever the default is."""
    expected = {"t5": "google-t5/t5-base", "decoder": "Qwen/Qwen3-0.6B", "encoder": None}[kind_of(family)]
    assert compose(f"model={family}").backbone.get("name_or_path") == expected


def test_decoders_as_encoders_have_keys_of_their_own() -> None:
    """Those of their papers, each tested below."""
    assert {("repllama", "append_eos"), ("repllama", "document_prompt"), ("qwen3_embedding", "pooling")} <= set(KEYS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_depends_on_no_padding_and_on_no_other_text(
    family: str, compose: Compose, folders: dict[str, Path]
) -> None:
    """A pair alone, beside longer texts, and in any order has the same score, to 1e-5 in fp32."""
    model = made(compose, folders, family)
    documents = [*tiny.DOCUMENTS, LONG, ""]
    together = model.score(tiny.QUERIES, documents)
    scale = float(together.abs().max())
    reverse = model.score(tiny.QUERIES[::-1], documents[::-1]).flip(0, 1)
    torch.testing.assert_close(reverse, together, atol=1e-5 * scale, rtol=1e-5)
    if isinstance(model, CrossEncoder) and model.is_listwise:
        return
    for q, query in enumerate(tiny.QUERIES):
        for d, document in enumerate(documents):
            alone = model.score(query, [document])[0]
            torch.testing.assert_close(alone, together[q, d], atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("family", ["sbert", "splade", "coil", "colbert", "mono"])
def test_no_documents_have_no_scores(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """For one query and for several, of every kind of vectors and of none."""
    model = made(compose, folders, family)
    assert model.score("list", []).shape == (0,)
    assert model.score(tiny.QUERIES, []).shape == (2, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_trained_is_what_is_searched(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """The differentiable scores of a batch are those of the vectors that are stored."""
    model = made(compose, folders, family)
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    with torch.no_grad():
        if isinstance(model, CrossEncoder):
            queries = [query for query in tiny.QUERIES for _ in tiny.DOCUMENTS]
            pairs = model.pad(model.tokenize_pairs(queries, tiny.DOCUMENTS * 2))
            found = model.activate(model.score_pairs(pairs, [len(tiny.DOCUMENTS)] * 2)).view(2, -1)
        else:
            assert isinstance(model, BiEncoder)
            query = model.encode_queries(model.pad(model.tokenize_queries(tiny.QUERIES), is_query=True))
            document = model.encode_documents(model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False))
            (found,) = model.similarity(query, document)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_lengths_are_tokens_and_cut_the_text_alone(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """What stands behind the length changes nothing; what stands before it does."""
    lengths: tuple[str, ...] = ("model.query_length=12", "model.document_length=16")
    if family == "qwen3_embedding":
        lengths = ("model.query_prompt='Query '", *lengths)
    if family == "mvr":
        lengths = (*lengths, "model.viewers=3")
    model = made(compose, folders, family, *lengths)
    words = "list all the buckets of an instance and delete a queue "
    one, same = model.score("list", [words * 2 + "a", words * 2 + "instance"])
    torch.testing.assert_close(one, same)
    assert model.score(words, ["stop " + words * 2])[0] != model.score(words, [words * 2])[0]
    one = model.score(words * 2 + "a", ["list a queue"])[0]
    torch.testing.assert_close(one, model.score(words * 2 + "instance", ["list a queue"])[0])


#: Keys whose effect is on training, on the name, or tested elsewhere, with the test.
ELSEWHERE = {
    "backbone": "every test",
    "query_backbone": "test_dense.py",
    "k_train": "test_formulas.py: test_xtr_in_training",
    "matryoshka_dims": "test_formulas.py: test_matryoshka",
    "pool_prompt": "test_dense.py",
    "projection_bias": "test_dense.py",
    "projection_activation": "test_dense.py",
    "name": "test_checkpoints.py: test_what_is_saved_opens_as_the_same_model",
    "query_length": "test_lengths_are_tokens_and_cut_the_text_alone",
    "document_length": "test_lengths_are_tokens_and_cut_the_text_alone",
    "special_tokens": "test_special_tokens_of_a_template",
}

#: Another value of each key.
OTHER = {
    "pooling": {"splade": "sum", "sbert": "max", "dpr": "mean", "repllama": "cls", "qwen3_embedding": "cls"},
    "similarity": {"sbert": "dot", "dpr": "cosine", "repllama": "dot", "qwen3_embedding": "dot"},
    "projection_dim": 4,
    "query_prompt": "'list '",
    "document_prompt": "'list '",
    "append_eos": {"repllama": "false", "sbert": "true", "qwen3_embedding": "false"},
    "truncate_dim": 4,
    "query_encoding": {"splade": "lexical", "splade_doc": "mlm", "splade_lexical": "static"},
    "document_encoding": "lexical",
    "activation": {"splade": "log1p_log1p"},
    "max_active_dims": 3,
    "keep_sep": "true",
    "token_dim": 4,
    "cls_dim": 0,
    "dim": 4,
    "query_marker": "a",
    "document_marker": "a",
    "query_expansion": "false",
    "attend_to_expansion": "true",
    "mask_punctuation": "false",
    "viewers": 3,
    "labels": 2,
    "extra_token": "true",
    "template": "'{query} {document}'",
    "true_token": "all",
    "false_token": {"mono_t5": "null", "rank_t5": "all", "mono_decoder": "null"},
    "score": {"mono_t5": "log_odds", "mono_decoder": "log_probability"},
}

KEYS = [
    (family, key)
    for family in FAMILIES
    for key in OmegaConf.to_container(OmegaConf.load(CONF / "model" / "sbert.yaml")) | {}  # type: ignore[operator]
    if family in ("sbert",) and not str(key).startswith("_")
] + [
    (path.stem, key)
    for path in sorted((CONF / "model").glob("*.yaml"))
    for key in (OmegaConf.to_container(OmegaConf.load(path)).get("model") or {})  # type: ignore[union-attr]
    if path.stem not in ("bm25", "fusion") and not str(key).startswith("_")
]


@pytest.mark.parametrize(("family", "key"), KEYS)
def test_every_key_has_an_effect(family: str, key: str, compose: Compose, folders: dict[str, Path]) -> None:
    """Another value changes a score, or the test that sees its effect is named."""
    if key in ELSEWHERE:
        return
    value: Any = OTHER[key]
    if isinstance(value, dict):
        value = value.get(family, "Sigmoid" if key == "activation" else "missing")
    assert value != "missing", "this test does not know the key"
    if key == "append_eos":
        folders = dict.fromkeys(folders, folders["decoder"])  # which has an end token
    texts = [*tiny.DOCUMENTS, "list all, list all"]
    before = made(compose, folders, family).score(tiny.QUERIES, texts)
    after = made(compose, folders, family, f"model.{key}={value}").score(tiny.QUERIES, texts)
    assert not np.allclose(before.numpy(), after.numpy(), atol=1e-4)


def test_special_tokens_of_a_template(compose: Compose, folders: dict[str, Path]) -> None:
    """With them a T5 reads </s> behind the template, without them it does not."""
    ends = []
    for value in ("true", "false"):
        model = made(compose, folders, "mono_t5", f"model.special_tokens={value}")
        assert isinstance(model, CrossEncoder)
        ends.append(model.tokenize_pairs(["list"], ["a"])[0].ids[-1] == tiny.WORDS.index("</s>"))
    assert ends == [True, False]


@pytest.mark.parametrize(
    ("family", "backbone", "message"),
    [
        ("splade", "t5", "has no masked-language-model head, which this model needs"),
        ("splade", "decoder", "has no masked-language-model head, which this model needs"),
        ("splade", "bare", "its weights lack cls.predictions"),
        ("mono_t5", "encoder", "is neither a decoder nor an encoder-decoder"),
        ("set_encoder", "decoder", "the backbone is a"),
        ("colbert", "decoder", "tokenizer has no mask token"),
    ],
)
def test_a_backbone_that_lacks_what_a_model_needs_is_refused_by_name(
    family: str, backbone: str, message: str, compose: Compose, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Before any work, saying what is missing."""
    folder = tiny.bert(tmp_path, "BertModel") if backbone == "bare" else folders[backbone]
    with pytest.raises(UserError, match=message):
        made(compose, dict.fromkeys(folders, folder), family)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_than_the_backbone_reads_is_refused(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """The tiny ones have 64 positions; T5 has no bound."""
    if family.endswith("t5"):
        assert made(compose, folders, family, "model.document_length=500").document_length == 500
        return
    with pytest.raises(UserError, match=r"model\.document_length=500: the backbone reads 64 tokens at most"):
        made(compose, folders, family, "model.document_length=500")


def test_what_a_family_refuses(compose: Compose, folders: dict[str, Path]) -> None:
    """Values that no model can have, each named."""
    for family, override, message in (
        ("coil", "model.token_dim=0", "dimensions cannot be so few"),
        ("mvr", "model.viewers=0", "needs at least one"),
        ("xtr", "model.k_train=0", "at least one token is retrieved"),
        ("mono_t5", "model.template='no places'", "it needs {query} and {document}, once each"),
        ("mono_t5", "model.true_token=True_", "the vocabulary has no token 'True_'"),
        ("mono_t5", "model.true_token=Yes", "the vocabulary has no token 'Yes'; .*: 'yes'"),
        ("sbert", "model.truncate_dim=400", "the vectors have 16 dimensions"),
        ("sbert", "model.truncate_dim=0", "model.truncate_dim=0: the vectors have 16 dimensions"),
        ("sbert", "model.matryoshka_dims=[8,17]", r"matryoshka_dims=\[8, 17\]: the vectors have 16 dimensions$"),
        ("sbert", "model={truncate_dim:4,matryoshka_dims:[8]}", "16 dimensions, of which model.truncate_dim keeps 4"),
        ("sbert", "model.append_eos=true", "the backbone's tokenizer has no end token"),
        ("sbert", "model.pooling=[mean,meen]", "is not one of .mean., .cls., .*, a list of them"),
        ("splade", "model.max_active_dims=0", "at least one word keeps its weight"),
    ):
        with pytest.raises(UserError, match=message):
            made(compose, folders, family, override)


@pytest.mark.parametrize(
    ("family", "overrides", "message"),
    [
        ("sbert", ["model.query_length=2"], r"model\.query_length=2: the least is 3; 2 are no text"),
        ("sbert", ["model.document_length=0"], r"model\.document_length=0: the least is 3"),
        ("sbert", ["model.query_length=5", "model.query_prompt='list a queue'"], "the least is 6; 5 are no text"),
        ("repllama", ["model.query_prompt=list", "model.query_length=2"], "the least is 3; 2 are no text"),
        ("splade", ["model.query_length=-1"], r"model\.query_length=-1: the least is 3"),
        ("colbert", ["model.query_length=3"], r"model\.query_length=3: the least is 4; 3 are no text"),
        ("colbert", ["model.document_length=3"], r"model\.document_length=3: the least is 4"),
        ("mvr", ["model.document_length=10"], r"model\.document_length=10: the least is 11; 10 are no text"),
        ("mvr", ["model.query_length=3"], r"model\.query_length=3: the least is 4"),
        ("mono", ["model.query_length=0"], r"model\.query_length=0: the least is 1$"),
        ("mono_decoder", ["model.document_length=-3"], r"model\.document_length=-3: the least is 1$"),
    ],
)
def test_a_length_without_place_for_a_text_is_refused(
    family: str, overrides: list[str], message: str, compose: Compose, folders: dict[str, Path]
) -> None:
    """Special tokens, markers, viewers and prompts are counted, and zero is no other word for null."""
    with pytest.raises(UserError, match=message):
        made(compose, folders, family, *overrides)


@pytest.mark.parametrize("family", ["mono", "set_encoder"])
def test_two_long_texts_share_the_room(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """Whatever the lengths are, a pair fits into the encoder, and neither side is cut away."""
    model = made(compose, folders, family, "model.query_length=64", "model.document_length=64")
    assert isinstance(model, CrossEncoder)
    short, long = "stop a queue", "list " * 80
    for query, document, ends in ((long, long, [31, 63]), (short, long, [4, 63]), (long, short, [59, 63])):
        (pair,) = model.tokenize_pairs([query], [document])
        assert [place for place, token in enumerate(pair.ids) if tiny.WORDS[token] == "[SEP]"] == ends


def test_a_template_shortens_the_document_and_is_never_cut(compose: Compose, folders: dict[str, Path]) -> None:
    """A filled template has the backbone's positions and no more; a document gives way before the query does."""
    for query_length, queries in ((20, 20), (64, 61)):
        model = made(compose, folders, "mono_decoder", f"model.query_length={query_length}")
        assert isinstance(model, CrossEncoder)
        (pair,) = model.tokenize_pairs(["list " * 80], ["stop " * 80])
        words = [tiny.WORDS[token] for token in pair.ids]
        assert (len(words), words.count("list")) == (64, queries)
