"""What a module's type and settings of sentence-transformers say: applied, or refused by name; and what is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.splade import SPLADE
from irexp.types import UserError
from tests import tiny
from tests.home import dense, edit
from tests.model.test_home_settings import DOCUMENTS, QUERIES, assert_equal_at_home, home_scores
from tests.rounding import assert_equal_but_for_rounding

Folders = dict[str, Path]

FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}


def bert_settings(**values: Any) -> Callable[[Path], None]:
    """A change of sentence_bert_config.json."""
    return lambda folder: edit(folder / "sentence_bert_config.json", **values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bert_settings(config_kwargs={"num_hidden_layers": 1}), r"config_kwargs=\{'num_hidden_layers': 1\} is not"),
        (bert_settings(config_args={"hidden_act": "relu"}), "config_args=.* is not supported"),
        (bert_settings(model_args={"subfolder": "x"}), "model_args=.* is not supported"),
        (bert_settings(modality_config={"text": FORWARD | {"method_output_name": "pooler_output"}}), "pooler_output"),
        (bert_settings(modality_config={"text": FORWARD | {"method": "encode"}}), "encode"),
        (bert_settings(module_output_name="sentence_embedding"), "module_output_name=sentence_embedding is not"),
        (bert_settings(modality_config={"text": FORWARD, "message": FORWARD}), "the tokenizer's chat template"),
        (bert_settings(max_seq_length="16"), "max_seq_length='16' is not of the type int"),
        (lambda f: edit(f / "config_sentence_transformers.json", prompts=["a"]), r"prompts=\['a'\] is not of the type"),
        (lambda f: (f / "sentence_bert_config.json").write_text("[]"), "has no settings but list"),
        (lambda f: edit(f / "1_Pooling" / "x" / ".." / "config.json", pooling_mode="x"), "the pooling x is not"),
        (
            lambda f: (f / "modules.json").write_text(
                (f / "modules.json").read_text().replace("sentence_transformers.sentence_transformer", "my_code")
            ),
            r"the module my_code\..* is code of the checkpoint",
        ),
    ],
)
def test_what_would_compute_another_vector_is_refused(
    change: Callable[[Path], Any], message: str, long: Folders, tmp_path: Path
) -> None:
    """Other weights, other layers, another output, a chat template, code; and settings of another type."""
    SentenceTransformer(modules=dense(long["plain"]), device="cpu").save(str(tmp_path))
    (tmp_path / "1_Pooling" / "x").mkdir()
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_settings_that_change_no_value_are_accepted(long: Folders, tmp_path: Path) -> None:
    """How the transformer computes its attention, for one."""
    SentenceTransformer(modules=dense(long["plain"]), device="cpu").save(str(tmp_path))
    edit(tmp_path / "sentence_bert_config.json", model_kwargs={"attn_implementation": "eager"}, config_args={})
    assert_equal_at_home(tmp_path)


def test_the_lengths_of_sides_do_not_apply_to_a_pair(long: Folders, tmp_path: Path) -> None:
    """A cross-encoder of sentence-transformers cuts the pair as a whole."""
    CrossEncoder(str(long["classifier"]), device="cpu").save(str(tmp_path))
    edit(tmp_path / "sentence_bert_config.json", max_seq_length=200, query_length=4, document_length=7)
    short = [document[:200] for document in DOCUMENTS]
    theirs = CrossEncoder(str(tmp_path), device="cpu").predict([(tiny.QUERIES[0], text) for text in short])
    assert_equal_but_for_rounding(load(tmp_path).score(tiny.QUERIES[0], short), theirs)


def cased(folder: Path) -> Path:
    """Make the tokenizer of a class that sets up itself what it is said to be, here without lower-casing."""
    (folder / "vocab.txt").write_text("\n".join(tiny.WORDS) + "\n")
    edit(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False)
    edit(folder / "sentence_bert_config.json", max_seq_length=64, do_lower_case=True)
    return folder


@pytest.mark.parametrize(
    ("kind", "home"),
    [("plain", SentenceTransformer), ("masked", SparseEncoder), ("classifier", CrossEncoder)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_lower_casing_is_saved(kind: str, home: Any, folders: Folders, tmp_path: Path) -> None:
    """The class of a tokenizer may set up its normalizer again, whatever the saved file says."""
    heads = {"plain": "BertModel", "masked": "BertForMaskedLM", "classifier": "BertForSequenceClassification"}
    folder = tiny.bert(tmp_path / "start", heads[kind], num_labels=1)
    home(str(folder), device="cpu").save(str(tmp_path / "theirs"))
    ours = load(cased(tmp_path / "theirs"))
    texts = [text.upper() for text in tiny.DOCUMENTS]
    expected = ours.score(tiny.QUERIES, texts)
    assert_equal_but_for_rounding(ours.score(tiny.QUERIES, tiny.DOCUMENTS), expected)
    save(ours, tmp_path / "ours")
    assert_equal_but_for_rounding(load(tmp_path / "ours").score(tiny.QUERIES, texts), expected)
    theirs: Any = home(str(tmp_path / "ours"), device="cpu")
    if home is CrossEncoder:
        found = theirs.predict([(query, text) for query in tiny.QUERIES for text in texts]).reshape(expected.shape)
    else:
        found = theirs.similarity(theirs.encode_query(tiny.QUERIES), theirs.encode_document(texts)).numpy()
    assert_equal_but_for_rounding(found, expected)


def test_an_untied_decoders_bias_is_saved(tmp_path: Path) -> None:
    """BERT's head has it under two names, which become one tensor when the decoder is put back."""
    tiny.long_bert(tmp_path / "start", "BertForMaskedLM", tie_word_embeddings=False)
    transformer = transformers.BertForMaskedLM.from_pretrained(tmp_path / "start")
    torch.nn.init.normal_(transformer.cls.predictions.decoder.bias)
    transformer.save_pretrained(tmp_path / "start")
    ours = SPLADE(HuggingFaceBackbone(str(tmp_path / "start"))).eval()
    expected = ours.score(QUERIES, DOCUMENTS)
    for name in ("once", "twice"):
        save(ours, tmp_path / name)
        assert_equal_but_for_rounding(load(tmp_path / name).score(QUERIES, DOCUMENTS), expected)
        assert_equal_but_for_rounding(home_scores(tmp_path / name, SparseEncoder), expected)


def test_a_tokenizer_without_padding_is_saved_with_one(tmp_path: Path) -> None:
    """Sentence-transformers cannot encode texts of several lengths without it."""
    folder = tiny.decoder(tmp_path / "start")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "pad_token"}))
    ours = DenseBiEncoder(HuggingFaceBackbone(str(folder)), pooling="last", append_eos=True).eval()
    expected = ours.score(QUERIES, DOCUMENTS)
    save(ours, tmp_path / "saved")
    assert_equal_but_for_rounding(load(tmp_path / "saved").score(QUERIES, DOCUMENTS), expected)
    assert_equal_but_for_rounding(home_scores(tmp_path / "saved"), expected)


def test_the_token_of_the_whole_text_has_the_type_that_xlnets_tokenizer_gives(tmp_path: Path) -> None:
    """A type of its own; without types XLNet leaves a term of its attention out."""
    config = transformers.XLNetConfig(
        vocab_size=len(tiny.WORDS), d_model=16, n_head=2, d_inner=24, n_layer=2, initializer_range=0.5
    )
    tiny.make(tmp_path, transformers.XLNetModel, config)
    ours = DenseBiEncoder(HuggingFaceBackbone(str(tmp_path)), pooling="cls", query_length=64).eval()
    theirs = transformers.AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor(ours.tokenize_queries([tiny.QUERIES[0]]))
    types = (ids == tiny.WORDS.index("[CLS]")) * 2
    with torch.no_grad():
        expected = theirs(input_ids=ids, token_type_ids=types).last_hidden_state[:, 0]
        without = theirs(input_ids=ids).last_hidden_state[:, 0]
    found = torch.as_tensor(ours.embed_queries([tiny.QUERIES[0]]))
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, without, atol=1e-3)


def test_a_prompt_of_passages_is_used_and_warned_of(
    long: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name says that it is for documents, though sentence-transformers 6 reads another one for them."""
    prompts = {"query": "list ", "passage": "delete "}
    SentenceTransformer(modules=dense(long["plain"]), device="cpu").save(str(tmp_path))
    edit(tmp_path / "config_sentence_transformers.json", prompts=prompts)
    ours = load(tmp_path)
    assert isinstance(ours, DenseBiEncoder) and ours.document_prompt == "delete "
    assert "'delete ' named passage is put in front of documents" in caplog.text
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    vectors = theirs.encode_document(["buckets"], normalize_embeddings=True)
    assert_equal_but_for_rounding(theirs.encode(["buckets"], normalize_embeddings=True), vectors)


def test_a_bare_transformer_with_a_chat_template_is_warned_of(
    folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sentence-transformers would put each text into it."""
    tiny.decoder(tmp_path, "ArceeModel")
    edit(tmp_path / "tokenizer_config.json", chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    load(tmp_path)
    assert "whose tokenizer has a chat template" in caplog.text


def test_a_multi_vector_model_keeps_lower_casing(tmp_path: Path) -> None:
    """As the other families, in PyLate's layout, which sentence-transformers opens."""
    folder = cased(tiny.bert(tmp_path / "start"))
    ours = ColBERT(HuggingFaceBackbone(str(folder)), dim=8, query_marker=None, document_marker=None).eval()
    save(ours, tmp_path / "first")
    edit(tmp_path / "first" / "sentence_bert_config.json", do_lower_case=True)
    lower = load(tmp_path / "first")
    texts = [text.upper() for text in tiny.DOCUMENTS]
    expected = lower.score(tiny.QUERIES, texts)
    save(lower, tmp_path / "second")
    assert_equal_but_for_rounding(load(tmp_path / "second").score(tiny.QUERIES, texts), expected)
    theirs = MultiVectorEncoder(str(tmp_path / "second"), device="cpu")
    found = theirs.similarity(theirs.encode_query(tiny.QUERIES), theirs.encode_document(texts))
    assert_equal_but_for_rounding(found.numpy(), expected)
