"""Properties of every family: scores do not depend on padding or the batch; every setting has an effect."""

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
    """The kind of transformer that a family needs."""
    if family.endswith("t5"):
        return "t5"
    return "decoder" if family in ("mono_decoder", "repllama", "qwen3_embedding") else "encoder"


def made(compose: Compose, folders: dict[str, Path], family: str, *overrides: str) -> Model:
    """The model of a configuration, with seeded new layers."""
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


def test_all_families_of_conf_are_tested() -> None:
    """The parametrisations below would be empty if conf/model were not found."""
    assert len(FAMILIES) >= 16


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_selects_a_backbone_that_fits_it(family: str, compose: Compose) -> None:
    """T5 and decoder families select a T5 and a decoder; the default encoder would fail."""
    expected = {"t5": "google-t5/t5-base", "decoder": "Qwen/Qwen3-0.6B", "encoder": None}[kind_of(family)]
    assert compose(f"model={family}").backbone.get("name_or_path") == expected


def test_settings_of_decoder_encoders_are_tested() -> None:
    """The settings of RepLLaMA and Qwen3-Embedding are among the parameters below."""
    assert {("repllama", "append_eos"), ("repllama", "document_prompt"), ("qwen3_embedding", "pooling")} <= set(KEYS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_does_not_depend_on_padding_or_other_texts(
    family: str, compose: Compose, folders: dict[str, Path]
) -> None:
    """A pair has the same score alone, in a batch with longer texts, and in any order, to 1e-5 in fp32."""
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
def test_an_empty_list_of_documents_gives_no_scores(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """The shape is (0,) for one query and (2, 0) for two, for every representation and for cross-encoders."""
    model = made(compose, folders, family)
    assert model.score("list", []).shape == (0,)
    assert model.score(tiny.QUERIES, []).shape == (2, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_scores_equal_search_scores(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """The differentiable scores of a batch equal the scores of the stored vectors."""
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
def test_lengths_count_tokens_and_truncate_the_text(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """A change after the maximum length has no effect on the score; a change before it has one."""
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


#: Settings that only affect training or the name, or are tested elsewhere, with that test.
ELSEWHERE = {
    "backbone": "every test",
    "query_backbone": "test_dense.py",
    "k_train": "test_formulas.py: test_xtr_in_training_is_its_formula",
    "matryoshka_dims": "test_matryoshka.py",
    "pool_prompt": "test_dense.py",
    "projection_bias": "test_dense.py",
    "projection_activation": "test_dense.py",
    "name": "test_checkpoints.py: test_a_saved_model_loads_as_the_same_model",
    "query_length": "test_lengths_count_tokens_and_truncate_the_text",
    "document_length": "test_lengths_count_tokens_and_truncate_the_text",
    "special_tokens": "test_special_tokens_are_added_to_a_template_if_set",
}

#: A value of each setting that differs from its default.
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
def test_every_setting_has_an_effect(family: str, key: str, compose: Compose, folders: dict[str, Path]) -> None:
    """Another value changes a score, or ELSEWHERE names the test of its effect."""
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


def test_special_tokens_are_added_to_a_template_if_set(compose: Compose, folders: dict[str, Path]) -> None:
    """With `special_tokens` a T5's template ends with </s>, without it does not."""
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
def test_an_unsuitable_backbone_is_refused_with_the_reason(
    family: str, backbone: str, message: str, compose: Compose, folders: dict[str, Path], tmp_path: Path
) -> None:
    """The error comes when the model is made, and names the missing part."""
    folder = tiny.bert(tmp_path, "BertModel") if backbone == "bare" else folders[backbone]
    with pytest.raises(UserError, match=message):
        made(compose, dict.fromkeys(folders, folder), family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_length_above_the_backbones_maximum_is_refused(
    family: str, compose: Compose, folders: dict[str, Path]
) -> None:
    """The tiny backbones have 64 positions; T5 has no limit."""
    if family.endswith("t5"):
        assert made(compose, folders, family, "model.document_length=500").document_length == 500
        return
    with pytest.raises(UserError, match=r"model\.document_length=500: the backbone reads at most 64 tokens"):
        made(compose, folders, family, "model.document_length=500")


def test_invalid_settings_of_a_family_are_refused(compose: Compose, folders: dict[str, Path]) -> None:
    """Each error names the setting and the reason."""
    for family, override, message in (
        ("coil", "model.token_dim=0", "model.token_dim: 0 is out of range; it must be at least 1"),
        ("mvr", "model.viewers=0", "model.viewers: 0 is out of range"),
        ("xtr", "model.k_train=0", "it must be at least 1"),
        ("mono_t5", "model.template='no places'", "it must contain {query} and {document} once each"),
        ("mono_t5", "model.true_token=True_", "the vocabulary has no token 'True_'"),
        ("mono_t5", "model.true_token=Yes", "the vocabulary has no token 'Yes'; .* such as 'yes'"),
        ("sbert", "model.truncate_dim=400", "the vectors have 16 dimensions"),
        ("sbert", "model.truncate_dim=0", "model.truncate_dim: 0 is out of range"),
        ("sbert", "model.matryoshka_dims=[8,17]", r"matryoshka_dims=\[8, 17\]: the vectors have 16 dimensions$"),
        ("sbert", "model={truncate_dim:4,matryoshka_dims:[8]}", "16 dimensions, of which model.truncate_dim keeps 4"),
        ("sbert", "model.append_eos=true", "the backbone's tokenizer has no end token"),
        ("sbert", "model.pooling=[mean,meen]", "is not one of .mean., .cls., .*, a list of them"),
        ("splade", "model.max_active_dims=0", "it must be at least 1, or null"),
    ):
        with pytest.raises(UserError, match=message):
            made(compose, folders, family, override)


@pytest.mark.parametrize(
    ("family", "overrides", "message"),
    [
        ("sbert", ["model.query_length=2"], r"model\.query_length=2: the minimum is 3: 2 for special"),
        ("sbert", ["model.document_length=0"], r"model\.document_length=0: the minimum is 3"),
        ("sbert", ["model.query_length=5", "model.query_prompt='list a queue'"], "the minimum is 6: 5 for special"),
        ("repllama", ["model.query_prompt=list", "model.query_length=2"], "the minimum is 3: 2 for special"),
        ("splade", ["model.query_length=-1"], r"model\.query_length=-1: the minimum is 3"),
        ("colbert", ["model.query_length=3"], r"model\.query_length=3: the minimum is 4: 3 for special"),
        ("colbert", ["model.document_length=3"], r"model\.document_length=3: the minimum is 4"),
        ("mvr", ["model.document_length=10"], r"model\.document_length=10: the minimum is 11: 10 for special"),
        ("mvr", ["model.query_length=3"], r"model\.query_length=3: the minimum is 4"),
        ("mono", ["model.query_length=0"], r"model\.query_length=0: the minimum is 1$"),
        ("mono_decoder", ["model.document_length=-3"], r"model\.document_length=-3: the minimum is 1$"),
    ],
)
def test_a_length_without_room_for_a_text_is_refused(
    family: str, overrides: list[str], message: str, compose: Compose, folders: dict[str, Path]
) -> None:
    """Special tokens, markers, viewers and prompts are counted, and zero does not mean null."""
    with pytest.raises(UserError, match=message):
        made(compose, folders, family, *overrides)


@pytest.mark.parametrize("family", ["mono", "set_encoder"])
def test_two_long_texts_share_the_maximum_length(family: str, compose: Compose, folders: dict[str, Path]) -> None:
    """A pair always fits into the encoder, and neither text is dropped entirely."""
    model = made(compose, folders, family, "model.query_length=64", "model.document_length=64")
    assert isinstance(model, CrossEncoder)
    short, long = "stop a queue", "list " * 80
    for query, document, ends in ((long, long, [31, 63]), (short, long, [4, 63]), (long, short, [59, 63])):
        (pair,) = model.tokenize_pairs([query], [document])
        assert [place for place, token in enumerate(pair.ids) if tiny.WORDS[token] == "[SEP]"] == ends


def test_a_filled_template_truncates_the_document_first(compose: Compose, folders: dict[str, Path]) -> None:
    """It fits into the backbone's positions; the document is truncated before the query, the template never."""
    for query_length, queries in ((20, 20), (64, 61)):
        model = made(compose, folders, "mono_decoder", f"model.query_length={query_length}")
        assert isinstance(model, CrossEncoder)
        (pair,) = model.tokenize_pairs(["list " * 80], ["stop " * 80])
        words = [tiny.WORDS[token] for token in pair.ids]
        assert (len(words), words.count("list")) == (64, queries)
