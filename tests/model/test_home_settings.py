"""Settings of sentence-transformers' folders (lengths, prompts, poolings, …) are applied."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sparse_encoder.modules import SpladePooling

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from tests import tiny
from tests.home import dense, edit
from tests.rounding import assert_equal_but_for_rounding

QUERIES = [*tiny.QUERIES, "how do i stop all of an instance list the buckets " * 7]
DOCUMENTS = [*tiny.DOCUMENTS, "list buckets and delete the queue " * 70 + "stop an instance", "stop all of it " * 19]

Folders = dict[str, Path]


def home_scores(folder: Path, kind: Any = SentenceTransformer) -> Any:
    """The scores of the texts in sentence-transformers."""
    theirs = kind(str(folder), device="cpu")
    if kind is CrossEncoder:
        return theirs.predict([(q, d) for q in QUERIES for d in DOCUMENTS]).reshape(len(QUERIES), -1)
    return theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)).numpy()


def assert_equal_at_home(folder: Path, kind: Any = SentenceTransformer) -> Model:
    """A folder of sentence-transformers loads with equal scores, and keeps them when irexp saves it again."""
    expected = home_scores(folder, kind)
    ours = load(folder)
    assert_equal_but_for_rounding(ours.score(QUERIES, DOCUMENTS).numpy(), expected)
    save(ours, folder / "again")
    assert_equal_but_for_rounding(home_scores(folder / "again", kind), expected)
    assert_equal_but_for_rounding(load(folder / "again").score(QUERIES, DOCUMENTS).numpy(), expected)
    return ours


@pytest.mark.parametrize("lengths", ["the tokenizer's", "max_seq_length", "one for each side"])
@pytest.mark.parametrize("kind", [SentenceTransformer, SparseEncoder], ids=lambda kind: kind.__name__)
def test_texts_are_truncated_to_the_checkpoints_length(kind: Any, lengths: str, long: Folders, tmp_path: Path) -> None:
    """Texts have up to 420 tokens, so that each length gives other scores."""
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
def test_a_pair_is_truncated_to_one_length(limit: int | None, place: str, long: Folders, tmp_path: Path) -> None:
    """The longer text is truncated first, query or document, as in sentence-transformers."""
    settings = {"max_length": limit} if place == "the tokenizer's" else {}
    CrossEncoder(str(long["classifier"]), device="cpu", **settings).save(str(tmp_path))
    if limit and place == "max_seq_length":
        edit(tmp_path / "sentence_bert_config.json", max_seq_length=limit)
    assert_equal_at_home(tmp_path, CrossEncoder)


def test_saved_lengths_apply_in_sentence_transformers(long: Folders, tmp_path: Path) -> None:
    """Truncated texts score the same there; pairs, which have one length there, only if the query fills its own."""
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


def test_a_tokenizers_length_above_the_number_of_positions_is_capped(tmp_path: Path) -> None:
    """As in sentence-transformers; many checkpoints' tokenizers have no limit."""
    folder = tiny.bert(tmp_path)
    edit(folder / "tokenizer_config.json", model_max_length=128)
    SentenceTransformer(modules=dense(folder), device="cpu").save(str(tmp_path / "saved"))
    edit(tmp_path / "saved" / "tokenizer_config.json", model_max_length=128)
    (tmp_path / "saved" / "sentence_bert_config.json").unlink()
    assert assert_equal_at_home(tmp_path / "saved").document_length == 64


@pytest.mark.parametrize("pooling", ["cls", "weightedmean", "lasttoken", ("mean", "max"), ("max", "cls")], ids=str)
def test_every_pooling_without_the_prompt_is_as_in_sentence_transformers(
    pooling: Any, long: Folders, tmp_path: Path
) -> None:
    """`cls` takes the first token after the prompt; two poolings are concatenated in their order."""
    modules = dense(long["plain"], pooling=pooling, include_prompt=False)
    if isinstance(pooling, tuple):
        torch.manual_seed(2)
        modules.append(Dense(32, 8))
    prompts = {"query": "delete the ", "document": "list "}
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(tmp_path))
    assert_equal_at_home(tmp_path)


def test_poolings_of_the_old_layout_are_concatenated(long: Folders, tmp_path: Path) -> None:
    """Flags of version 5 select several poolings, concatenated in the library's order, which a layer on top shows."""
    modules = [*dense(long["plain"]), Dense(32, 8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path))
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **flags}))
    ours = assert_equal_at_home(tmp_path)
    assert isinstance(ours, DenseBiEncoder)
    assert ours.embedding_dim == 8


@pytest.mark.parametrize("kind", [SentenceTransformer, SparseEncoder], ids=lambda kind: kind.__name__)
def test_an_empty_query_prompt_is_not_replaced_by_the_default_prompt(kind: Any, long: Folders, tmp_path: Path) -> None:
    """The default prompt applies neither to queries nor to documents."""
    start = long["plain"] if kind is SentenceTransformer else long["masked"]
    prompts = {"query": "", "document": "list ", "other": "delete the "}
    kind(str(start), device="cpu", prompts=prompts, default_prompt_name="other").save(str(tmp_path))
    ours = assert_equal_at_home(tmp_path, kind)
    assert isinstance(ours, DenseBiEncoder | SPLADE)
    assert (ours.query_prompt, ours.document_prompt) == ("", "list ")


def test_max_active_dims_keeps_the_largest_weights_outside_of_training(long: Folders, tmp_path: Path) -> None:
    """Scores equal those of a SparseEncoder with max_active_dims; in training all weights are kept."""
    SparseEncoder(str(long["masked"]), device="cpu", max_active_dims=5).save(str(tmp_path))
    ours = assert_equal_at_home(tmp_path, SparseEncoder)
    assert isinstance(ours, SPLADE)
    tokens = ours.pad(ours.tokenize_queries(QUERIES), is_query=True)
    assert int((ours.train().encode_queries(tokens).vectors_BH > 0).sum(dim=1).min()) > 5


def test_the_default_prompt_of_a_cross_encoder_is_put_before_the_query(long: Folders, tmp_path: Path) -> None:
    """It is the only prompt that CrossEncoder's `predict` uses."""
    prompts = {"a": "delete the ", "query": "list "}
    CrossEncoder(str(long["classifier"]), device="cpu", prompts=prompts, default_prompt_name="a").save(str(tmp_path))
    ours = assert_equal_at_home(tmp_path, CrossEncoder)
    assert isinstance(ours, Mono)
    assert ours.query_prompt == "delete the "


def test_a_chat_template_contains_the_default_prompt_and_is_never_truncated(folders: Folders, tmp_path: Path) -> None:
    """With 64 positions and a document of 420 tokens, only the document is cut; the prompt is the system message."""
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
    modalities = json.loads((tmp_path / "theirs" / "sentence_bert_config.json").read_text())["modality_config"]
    edit(tmp_path / "theirs" / "sentence_bert_config.json", modality_config={"message": modalities["message"]})
    ours = load(tmp_path / "theirs")
    assert isinstance(ours, TokenLogit)
    assert ours.template.startswith("delete the Query: {query}")
    assert_equal_but_for_rounding(ours.score(tiny.QUERIES[0], DOCUMENTS), expected)
    save(ours, tmp_path / "ours")
    again = CrossEncoder(str(tmp_path / "ours"), device="cpu")
    found = again.predict([(tiny.QUERIES[0], document) for document in DOCUMENTS])
    assert_equal_but_for_rounding(found, expected)


def test_do_lower_case_applies_to_a_cased_tokenizer(long: Folders, tmp_path: Path) -> None:
    """Otherwise capitalised words would become [UNK]."""
    SentenceTransformer(modules=dense(long["plain"]), device="cpu").save(str(tmp_path))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 512, "do_lower_case": true}')
    text = "HOW do I LIST Buckets"
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode([text], normalize_embeddings=True)
    ours = load(tmp_path)
    assert isinstance(ours, DenseBiEncoder)
    assert_equal_but_for_rounding(ours.embed_queries([text]), expected)
    assert ours.tokenize_queries([text]) == ours.tokenize_queries([text.lower()])


def test_separate_encoders_are_saved_and_loaded_as_a_router(long: Folders, tmp_path: Path) -> None:
    """Scores are equal in irexp and sentence-transformers, whichever saved the folder."""
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


def test_the_appended_end_token_is_saved_in_the_tokenizer(folders: Folders, tmp_path: Path) -> None:
    """RepLLaMA uses the end token's vector, and no setting of sentence-transformers would append the token."""
    backbone = HuggingFaceBackbone(str(folders["decoder"]))
    ours = DenseBiEncoder(backbone, pooling="last", append_eos=True, query_length=9, document_length=9).eval()
    assert [ids[-1] for ids in ours.tokenize_queries(QUERIES)] == [ours.query_tower.tokenizer.eos_token_id] * 3
    save(ours, tmp_path)
    expected = ours.score(QUERIES, DOCUMENTS).numpy()
    assert_equal_but_for_rounding(home_scores(tmp_path), expected)
    assert_equal_but_for_rounding(load(tmp_path).score(QUERIES, DOCUMENTS).numpy(), expected)


@pytest.mark.parametrize("query", ["lexical", "mlm"])
@pytest.mark.parametrize("document", ["lexical", "mlm"])
def test_a_lexical_splade_scores_the_same_in_sentence_transformers(
    query: Any, document: Any, long: Folders, tmp_path: Path
) -> None:
    """It is saved as weights of one after the pooling, by which it is recognised without irexp.json."""
    backbone = HuggingFaceBackbone(str(long["masked"]))
    model = SPLADE(backbone, query_encoding=query, document_encoding=document).eval()
    save(model, tmp_path)
    (tmp_path / "irexp.json").unlink()
    opened = assert_equal_at_home(tmp_path, SparseEncoder)
    assert isinstance(opened, SPLADE)
    assert (opened.query_encoding, opened.document_encoding) == (query, document)
    assert_equal_but_for_rounding(opened.score(QUERIES, DOCUMENTS), model.score(QUERIES, DOCUMENTS))


def test_an_adapter_in_a_list_of_modules_keeps_the_other_modules(long: Folders, tmp_path: Path) -> None:
    """In place of the transformer sentence-transformers saves only its adapter; scores must be equal nevertheless."""
    from peft import LoraConfig

    torch.manual_seed(4)
    modules = dense(long["plain"], Dense(16, 8), pooling="cls")
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.add_adapter(LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False))
    theirs.save(str(tmp_path))
    assert not (tmp_path / "config.json").is_file()
    assert_equal_at_home(tmp_path)


def test_a_cross_encoder_without_activation_has_sentence_transformers_default(tmp_path: Path) -> None:
    """The default is Sigmoid for one logit, Identity for two."""
    folder = tiny.long_bert(tmp_path / "one", "BertForSequenceClassification", num_labels=1)
    assert_equal_but_for_rounding(load(folder).score(QUERIES, DOCUMENTS), home_scores(folder, CrossEncoder))
    two = load(tiny.bert(tmp_path / "two", "BertForSequenceClassification", num_labels=2))
    assert isinstance(two, Mono)
    assert two.activation == "Identity"
