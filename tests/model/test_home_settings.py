"""What a folder of sentence-transformers says of lengths, prompts, poolings and the like: done, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.types import UserError
from tests import tiny
from tests.rounding import assert_equal_but_for_rounding

QUERIES = [*tiny.QUERIES, "how do i stop all of an instance list the buckets " * 7]
DOCUMENTS = [*tiny.DOCUMENTS, "list buckets and delete the queue " * 70 + "stop an instance", "stop all of it " * 19]

Folders = dict[str, Path]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Tiny BERTs that read 512 tokens, more than any length by default."""
    heads = {"plain": "BertModel", "masked": "BertForMaskedLM", "classifier": "BertForSequenceClassification"}
    return {
        kind: tiny.long_bert(tmp_path_factory.mktemp(kind), head, num_labels=1 if kind == "classifier" else 2)
        for kind, head in heads.items()
    }


def edit(path: Path, **values: Any) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    path.write_text(json.dumps(content | values), encoding="utf8")


def home_scores(folder: Path, kind: Any = SentenceTransformer) -> Any:
    """What sentence-transformers makes of the texts."""
    theirs = kind(str(folder), device="cpu")
    if kind is CrossEncoder:
        return theirs.predict([(q, d) for q in QUERIES for d in DOCUMENTS]).reshape(len(QUERIES), -1)
    return theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)).numpy()


def assert_equal_at_home(folder: Path, kind: Any = SentenceTransformer) -> Model:
    """A folder of theirs opens here with equal scores, and is saved so that they open it with equal scores."""
    expected = home_scores(folder, kind)
    ours = load(folder)
    assert_equal_but_for_rounding(ours.score(QUERIES, DOCUMENTS).numpy(), expected)
    save(ours, folder / "again")
    assert_equal_but_for_rounding(home_scores(folder / "again", kind), expected)
    assert_equal_but_for_rounding(load(folder / "again").score(QUERIES, DOCUMENTS).numpy(), expected)
    return ours


def dense(folder: Path, *more: Any, pooling: Any = "mean", include_prompt: bool = True, **lengths: int) -> list[Any]:
    """Modules of a dense model."""
    transformer = Transformer(str(folder), **lengths)
    return [transformer, Pooling(16, pooling_mode=pooling, include_prompt=include_prompt), *more]


@pytest.mark.parametrize("lengths", ["the tokenizer's", "max_seq_length", "one for each side"])
@pytest.mark.parametrize("kind", [SentenceTransformer, SparseEncoder], ids=lambda kind: kind.__name__)
def test_texts_are_read_up_to_the_length_that_the_checkpoint_says(
    kind: Any, lengths: str, long: Folders, tmp_path: Path
) -> None:
    """Texts of up to 420 tokens, which every length cuts otherwise."""
    each: dict[str, Any] = {"query_length": 5, "document_length": 7} if lengths == "one for each side" else {}
    if kind is SparseEncoder:
        transformer = Transformer(str(long["masked"]), transformer_task="fill-mask", **each)
        modules = [transformer, SpladePooling()]
    else:
        modules = dense(long["plain"], **each)
    kind(modules=modules, device="cpu").save(str(tmp_path))
    if lengths == "max_seq_length":
        edit(tmp_path / "sentence_bert_config.json", max_seq_length=16)
    ours = assert_equal_at_home(tmp_path, kind)
    expected = {"the tokenizer's": (512, 512), "max_seq_length": (16, 16), "one for each side": (5, 7)}
    assert (ours.query_length, ours.document_length) == expected[lengths]


@pytest.mark.parametrize(
    ("limit", "place"), [(None, "the tokenizer's"), (32, "the tokenizer's"), (32, "max_seq_length")]
)
def test_a_pair_is_cut_at_one_length(limit: int | None, place: str, long: Folders, tmp_path: Path) -> None:
    """The longer text first, be it the query or the document."""
    settings = {"max_length": limit} if place == "the tokenizer's" else {}
    CrossEncoder(str(long["classifier"]), device="cpu", **settings).save(str(tmp_path))
    if limit and place == "max_seq_length":
        edit(tmp_path / "sentence_bert_config.json", max_seq_length=limit)
    assert_equal_at_home(tmp_path, CrossEncoder)


def test_what_is_trained_here_with_lengths_reads_as_much_at_home(long: Folders, tmp_path: Path) -> None:
    """Each side its own, for SPLADE and dense models; for pairs, whose length is one, where the query fills its own."""
    backbones = {kind: HuggingFaceBackbone(str(folder)) for kind, folder in long.items()}
    lengths: dict[str, Any] = {"query_length": 6, "document_length": 16}
    for kind, model in (
        (SparseEncoder, SPLADE(backbones["masked"], **lengths)),
        (SparseEncoder, SPLADE(backbones["masked"], query_encoding="binary", **lengths)),
        (SparseEncoder, SPLADE(backbones["masked"], query_encoding="lexical", **lengths)),
        (SentenceTransformer, DenseBiEncoder(backbones["plain"], **lengths)),
        (CrossEncoder, Mono(backbones["classifier"], has_head=True, **lengths)),
    ):
        folder = tmp_path / f"{kind.__name__}_{getattr(model, 'query_encoding', '')}"
        save(model.eval(), folder)
        expected, found = model.score(QUERIES, DOCUMENTS).numpy(), home_scores(folder, kind)
        texts = slice(0, 1) if kind is CrossEncoder else slice(None)  # six tokens, and long documents
        assert_equal_but_for_rounding(found[texts], expected[texts])


def test_a_length_of_the_tokenizer_beyond_the_positions_is_what_can_be_read(tmp_path: Path) -> None:
    """As sentence-transformers does; the tokenizers of many checkpoints know no limit."""
    folder = tiny.bert(tmp_path)
    edit(folder / "tokenizer_config.json", model_max_length=128)
    SentenceTransformer(modules=dense(folder), device="cpu").save(str(tmp_path / "saved"))
    edit(tmp_path / "saved" / "tokenizer_config.json", model_max_length=128)
    (tmp_path / "saved" / "sentence_bert_config.json").unlink()
    assert assert_equal_at_home(tmp_path / "saved").document_length == 64


@pytest.mark.parametrize("pooling", ["cls", "weightedmean", "lasttoken", ("mean", "max"), ("max", "cls")], ids=str)
def test_every_pooling_without_the_prompt(pooling: Any, long: Folders, tmp_path: Path) -> None:
    """The first token is the first one behind the prompt; two poolings are one vector, in their order."""
    modules = dense(long["plain"], pooling=pooling, include_prompt=False)
    if isinstance(pooling, tuple):
        torch.manual_seed(2)
        modules.append(Dense(32, 8))
    prompts = {"query": "delete the ", "document": "list "}
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(tmp_path))
    assert_equal_at_home(tmp_path)


def test_poolings_of_the_old_layout_are_concatenated(long: Folders, tmp_path: Path) -> None:
    """One flag for each, in the order of the flags."""
    SentenceTransformer(modules=dense(long["plain"]), device="cpu").save(str(tmp_path))
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **flags}))
    ours = assert_equal_at_home(tmp_path)
    assert isinstance(ours, DenseBiEncoder)
    assert ours.embedding_dim == 32


@pytest.mark.parametrize("kind", [SentenceTransformer, SparseEncoder], ids=lambda kind: kind.__name__)
def test_prompts_are_those_of_queries_and_documents(kind: Any, long: Folders, tmp_path: Path) -> None:
    """An empty one is one: the default prompt is for texts that are neither."""
    start = long["plain"] if kind is SentenceTransformer else long["masked"]
    prompts = {"query": "", "document": "list ", "other": "delete the "}
    kind(str(start), device="cpu", prompts=prompts, default_prompt_name="other").save(str(tmp_path))
    ours = assert_equal_at_home(tmp_path, kind)
    assert isinstance(ours, DenseBiEncoder | SPLADE)
    assert (ours.query_prompt, ours.document_prompt) == ("", "list ")


def test_the_heaviest_words_are_kept(long: Folders, tmp_path: Path) -> None:
    """A SparseEncoder with max_active_dims; while it is trained, all words are."""
    SparseEncoder(str(long["masked"]), device="cpu", max_active_dims=5).save(str(tmp_path))
    ours = assert_equal_at_home(tmp_path, SparseEncoder)
    assert isinstance(ours, SPLADE)
    tokens = ours.pad(ours.tokenize_queries(QUERIES), is_query=True)
    assert int((ours.train().encode_queries(tokens).vectors_BH > 0).sum(dim=1).min()) > 5


def test_the_default_prompt_of_a_cross_encoder_stands_before_the_query(long: Folders, tmp_path: Path) -> None:
    """The only prompt that `predict` puts anywhere."""
    prompts = {"a": "delete the ", "query": "list "}
    CrossEncoder(str(long["classifier"]), device="cpu", prompts=prompts, default_prompt_name="a").save(str(tmp_path))
    ours = assert_equal_at_home(tmp_path, CrossEncoder)
    assert isinstance(ours, Mono)
    assert ours.query_prompt == "delete the "


def test_a_chat_template_is_never_cut_and_has_the_prompt_in_it(folders: Folders, tmp_path: Path) -> None:
    """A decoder that reads 64 tokens, a document of 420, and the default prompt as the system's message."""
    place = "{{{{ messages | selectattr('role', 'eq', '{}') | map(attribute='content') | first }}}}"
    query, document, system = (place.format(role) for role in ("query", "document", "system"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["decoder"])
    tokenizer.chat_template = f"{system} Query: {query} Document: {document} Relevant:"
    shutil.copytree(folders["decoder"], tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    transformer = Transformer(str(tmp_path / "start"), transformer_task="text-generation")
    logits = LogitScore(true_token_id=tiny.WORDS.index("yes"), false_token_id=tiny.WORDS.index("no"))
    prompts: dict[str, Any] = {"prompts": {"a": "delete the"}, "default_prompt_name": "a"}
    theirs = CrossEncoder(modules=[transformer, logits], device="cpu", **prompts)
    theirs.save(str(tmp_path / "theirs"))
    expected = theirs.predict([(tiny.QUERIES[0], document) for document in DOCUMENTS])
    ours = load(tmp_path / "theirs")
    assert isinstance(ours, TokenLogit)
    assert ours.template.startswith("delete the Query: {query}")
    assert_equal_but_for_rounding(ours.score(tiny.QUERIES[0], DOCUMENTS), expected)
    save(ours, tmp_path / "ours")
    again = CrossEncoder(str(tmp_path / "ours"), device="cpu")
    found = again.predict([(tiny.QUERIES[0], document) for document in DOCUMENTS])
    assert_equal_but_for_rounding(found, expected)


def test_texts_are_put_into_lower_case(long: Folders, tmp_path: Path) -> None:
    """Where the tokenizer does not do it already."""
    SentenceTransformer(modules=dense(long["plain"]), device="cpu").save(str(tmp_path))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 512, "do_lower_case": true}')
    text = "HOW do I LIST Buckets"
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode([text], normalize_embeddings=True)
    ours = load(tmp_path)
    assert isinstance(ours, DenseBiEncoder)
    assert_equal_but_for_rounding(ours.embed_queries([text]), expected)
    assert ours.tokenize_queries([text]) == ours.tokenize_queries([text.lower()])


def test_an_encoder_for_each_side_is_a_router_both_ways(long: Folders, tmp_path: Path) -> None:
    """Saved here it opens there, with equal scores, and theirs here."""
    sides = []
    for seed in (1, 2):
        modules = dense(long["plain"], Dense(16, 8), Normalize(), pooling="cls")
        torch.manual_seed(seed)
        for parameter in modules[0].parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        sides.append(modules)
    router = Router.for_query_document(query_modules=sides[0], document_modules=sides[1])
    SentenceTransformer(modules=[router], device="cpu").save(str(tmp_path / "theirs"))
    ours = assert_equal_at_home(tmp_path / "theirs")
    assert isinstance(ours, DenseBiEncoder)
    assert ours.has_two_towers
    backbone = HuggingFaceBackbone(str(long["plain"]))
    dpr = DenseBiEncoder(backbone, query_backbone=backbone, similarity="dot", query_length=6, document_length=9)
    save(dpr.eval(), tmp_path / "dpr")
    found = home_scores(tmp_path / "dpr")
    assert_equal_but_for_rounding(found, dpr.score(QUERIES, DOCUMENTS).numpy())


def test_the_end_token_of_a_decoder_is_its_tokenizers(folders: Folders, tmp_path: Path) -> None:
    """RepLLaMA's vector is that of the end token, which no setting of sentence-transformers appends."""
    backbone = HuggingFaceBackbone(str(folders["decoder"]))
    ours = DenseBiEncoder(backbone, pooling="last", append_eos=True, query_length=9, document_length=9).eval()
    assert [ids[-1] for ids in ours.tokenize_queries(QUERIES)] == [ours.query_tower.tokenizer.eos_token_id] * 3
    save(ours, tmp_path)
    expected = ours.score(QUERIES, DOCUMENTS).numpy()
    assert_equal_but_for_rounding(home_scores(tmp_path), expected)
    assert_equal_but_for_rounding(load(tmp_path).score(QUERIES, DOCUMENTS).numpy(), expected)


@pytest.mark.parametrize("query", ["lexical", "mlm"])
@pytest.mark.parametrize("document", ["lexical", "mlm"])
def test_a_lexical_splade_scores_at_home_as_here(query: Any, document: Any, long: Folders, tmp_path: Path) -> None:
    """Written as weights of one behind the pooling; without irexp.json it is recognised by them."""
    backbone = HuggingFaceBackbone(str(long["masked"]))
    model = SPLADE(backbone, query_encoding=query, document_encoding=document).eval()
    save(model, tmp_path)
    (tmp_path / "irexp.json").unlink()
    opened = assert_equal_at_home(tmp_path, SparseEncoder)
    assert isinstance(opened, SPLADE)
    assert (opened.query_encoding, opened.document_encoding) == (query, document)
    assert_equal_but_for_rounding(opened.score(QUERIES, DOCUMENTS), model.score(QUERIES, DOCUMENTS))


def test_an_adapter_in_a_list_of_modules_keeps_the_other_modules(long: Folders, tmp_path: Path) -> None:
    """What sentence-transformers saves of a model with an adapter: its modules, and no transformer but the adapter."""
    from peft import LoraConfig

    torch.manual_seed(4)
    modules = dense(long["plain"], Dense(16, 8), pooling="cls")
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.add_adapter(LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False))
    theirs.save(str(tmp_path))
    assert not (tmp_path / "config.json").is_file()
    assert_equal_at_home(tmp_path)


Change = Callable[[Path], None]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("plain", lambda f: edit(f / "config_sentence_transformers.json", similarity_fn_name="euclidean"), "euclidean"),
        ("plain", lambda f: edit(f / "sentence_bert_config.json", processing_kwargs={"text": {}}), "processing_kwargs"),
        ("plain", lambda f: (f / "modules.json").write_text("{}"), "is no list of modules"),
        ("plain", lambda f: (f / "modules.json").write_text("[]"), "is no list of modules"),
        ("plain", lambda f: (f / "modules.json").write_text('[{"path": ""}]'), "is no list of modules"),
        (
            "plain",
            lambda f: (f / "modules.json").write_text('[{"type": "Transformer"}, {"type": "Normalize"}]'),
            "no P",
        ),
        ("plain", lambda f: (f / "model.safetensors").write_bytes(b"0123456789"), "cannot be read as a AutoModel"),
        ("plain", lambda f: edit(f / "config.json", vocab_size=50), r"has the shape \(119, 16\), but"),
        ("masked", lambda f: edit(f / "config_sentence_transformers.json", similarity_fn_name="cosine"), "'cosine'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    kind: str, change: Change, message: str, long: Folders, tmp_path: Path
) -> None:
    """Settings that would change a score, and damaged files."""
    home = SparseEncoder if kind == "masked" else SentenceTransformer
    home(str(long[kind]), device="cpu").save(str(tmp_path))
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_modules_in_another_order_are_refused_by_name(long: Folders, tmp_path: Path) -> None:
    """A Dense of token vectors, and vectors that are cut behind their normalisation."""
    tokens: dict[str, Any] = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    modules = [Transformer(str(long["plain"])), Dense(16, 8, **tokens), Pooling(8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "order"))
    with pytest.raises(UserError, match=r"the module Pooling in .* is not understood by a dense model"):
        load(tmp_path / "order")
    modules = dense(long["plain"], Normalize())
    SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot").save(str(tmp_path / "cut"))
    edit(tmp_path / "cut" / "config_sentence_transformers.json", truncate_dim=4)
    with pytest.raises(UserError, match="truncate_dim=4 of vectors that are normalised before"):
        load(tmp_path / "cut")
    modules = [*dense(long["plain"], pooling="cls"), Dense(16, 1, module_output_name="scores")]
    CrossEncoder(modules=modules, device="cpu").save(str(tmp_path / "pair"))
    with pytest.raises(UserError, match="Transformer, Pooling, Dense are not understood by a cross-encoder"):
        load(tmp_path / "pair")


def test_weights_of_words_behind_an_encoder_are_refused(long: Folders, tmp_path: Path) -> None:
    """They would have to be ones to be the lexical encoding."""
    transformer = Transformer(str(long["masked"]), transformer_task="fill-mask")
    static = SparseStaticEmbedding(transformer.tokenizer, weight=torch.rand(len(tiny.WORDS)))
    SparseEncoder(modules=[transformer, SpladePooling(), static], device="cpu").save(str(tmp_path))
    with pytest.raises(UserError, match="unless they are ones"):
        load(tmp_path)


def test_a_cross_encoder_that_names_no_activation_has_that_of_sentence_transformers(tmp_path: Path) -> None:
    """Sigmoid for one logit; of two, none."""
    folder = tiny.long_bert(tmp_path / "one", "BertForSequenceClassification", num_labels=1)
    assert_equal_but_for_rounding(load(folder).score(QUERIES, DOCUMENTS), home_scores(folder, CrossEncoder))
    two = load(tiny.bert(tmp_path / "two", "BertForSequenceClassification", num_labels=2))
    assert isinstance(two, Mono)
    assert two.activation == "Identity"
