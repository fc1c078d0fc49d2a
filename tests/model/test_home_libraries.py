"""Checkpoints load in both directions between irexp and the libraries of each format, with equal scores."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.xtr import XTR
from tests import tiny
from tests.families import MAKE, TEMPLATE, scores_of
from tests.rounding import assert_equal_but_for_rounding

FIXTURES = Path(__file__).parents[1] / "data" / "checkpoint"


def tiny_config(architecture: str, **more: Any) -> Any:
    """A configuration of an encoder of one layer and 16 dimensions."""
    settings: dict[str, Any] = {"vocab_size": len(tiny.WORDS), "hidden_size": 16, "num_hidden_layers": 1}
    settings |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 66, "pad_token_id": 0}
    if architecture == "DistilBert":
        settings = {"vocab_size": len(tiny.WORDS), "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24}
    if architecture == "ModernBert":
        settings |= {key: 1 for key in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")}
    return getattr(transformers, f"{architecture}Config")(**settings, initializer_range=0.5, **more)


#: Of a word that the vocabulary lacks, too, and of special tokens that are typed.
SPARSE_QUERIES = [*tiny.QUERIES, "list ☃ buckets", "list [MASK] the bucket", "list [SEP] the [CLS]", "[SEP] [SEP]"]


@pytest.mark.parametrize("name", ["splade", "splade_static", "splade_binary"])
def test_a_saved_splade_scores_the_same_in_sentence_transformers(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """SparseEncoder loads the folder that irexp saved and gives equal scores."""
    model = MAKE[name](backbones).eval()
    assert isinstance(model, SPLADE)
    if model.static_weights is not None:
        model.static_weights.data = torch.rand(model.embedding_dim)
    save(model, tmp_path)
    theirs = SparseEncoder(str(tmp_path), device="cpu")
    queries, documents = theirs.encode_query(SPARSE_QUERIES), theirs.encode_document(tiny.DOCUMENTS)
    found = (queries.to_dense() @ documents.to_dense().T).numpy()
    assert_equal_but_for_rounding(found, model.score(SPARSE_QUERIES, tiny.DOCUMENTS))


@pytest.mark.parametrize("kind", ["plain", "router", "cut router"])
@pytest.mark.parametrize("architecture", ["Bert", "DistilBert", "Roberta", "ModernBert"])
def test_a_sparse_encoder_of_sentence_transformers_loads(kind: str, architecture: str, tmp_path: Path) -> None:
    """Folders load with equal scores for every kind of head, also with queries encoded by static weights.

    Of these some are negative; [UNK] has one, too, and the largest by absolute value are kept.
    """
    start = tmp_path / "start"
    config = tiny_config(architecture)
    tiny.make(start, getattr(transformers, f"{architecture}ForMaskedLM"), config)
    theirs = SparseEncoder(str(start), device="cpu")
    if kind != "plain":
        static = SparseStaticEmbedding(theirs.tokenizer, weight=torch.randn(len(tiny.WORDS)))
        encoder: list[Any] = [theirs[0], theirs[1]]
        modules = Router.for_query_document(query_modules=[static], document_modules=encoder)
        theirs = SparseEncoder(modules=[modules], device="cpu", max_active_dims=2 if kind == "cut router" else None)
    theirs.save(str(tmp_path / "saved"))
    queries, documents = theirs.encode_query(SPARSE_QUERIES), theirs.encode_document(tiny.DOCUMENTS)
    expected = (queries.to_dense() @ documents.to_dense().T).numpy()
    ours = load(tmp_path / "saved")
    assert isinstance(ours, SPLADE)
    assert_equal_but_for_rounding(ours.score(SPARSE_QUERIES, tiny.DOCUMENTS).numpy(), expected)
    assert ours.query_encoding == ("mlm" if kind == "plain" else "static")


def test_a_bare_masked_language_model_loads_as_the_configured_family(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Naver's folders without a list of modules load as a SPLADE if configured, else dense with a warning."""
    like = partial(SPLADE, query_encoding="lexical", document_encoding="mlm")
    opened = load(folders["encoder"], like=like)  # type: ignore[arg-type]
    assert isinstance(opened, SPLADE)
    assert opened.query_encoding == "lexical"
    assert "opened as a dense model" not in caplog.text
    assert isinstance(load(folders["encoder"]), DenseBiEncoder)
    assert (
        "opened as a dense model; for a SPLADE use model=splade, or in Python load(…, like=partial(SPLADE))"
        in caplog.text
    )


def test_splade_tiny_has_the_similarities_of_its_model_card() -> None:
    """Similarities of three sentences under rasyosef/splade-tiny equal those in its model card."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    backbone = instantiate(OmegaConf.load(Path(__file__).parents[2] / "conf" / "backbone" / "splade_tiny.yaml"))
    model = load(backbone.location()[0], like=partial(SPLADE))  # type: ignore[arg-type]
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    expected = [[39.7253, 7.1662, 0.0], [7.1662, 27.0255, 0.1385], [0.0, 0.1385, 26.3539]]
    np.testing.assert_allclose(model.score(sentences, sentences).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["colbert", "colbert_plain"])
def test_a_saved_colbert_scores_the_same_in_sentence_transformers(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """MultiVectorEncoder loads the folder that irexp saved in PyLate's layout, and gives equal scores."""
    torch.manual_seed(5)
    model = MAKE[name](backbones).eval()
    save(model, tmp_path)
    theirs = MultiVectorEncoder(str(tmp_path), device="cpu")
    queries = theirs.encode_query(tiny.QUERIES)
    documents = theirs.encode_document(tiny.DOCUMENTS)
    expected = [[float((q @ d.T).amax(dim=1).sum()) for d in documents] for q in queries]
    assert_equal_but_for_rounding(scores_of(model), expected)


def test_a_multi_vector_encoder_of_sentence_transformers_loads(tmp_path: Path) -> None:
    """A PyLate folder that MultiVectorEncoder saved in its own layout loads with the recorded scores."""
    theirs = MultiVectorEncoder(str(FIXTURES / "pylate"), device="cpu")
    theirs.save(str(tmp_path / "saved"))
    recorded = json.loads((FIXTURES / "pylate" / "scores.json").read_text(encoding="utf8"))
    found = load(tmp_path / "saved").score(recorded["queries"], recorded["documents"]).numpy()
    assert_equal_but_for_rounding(found, recorded["scores"])


def test_googles_xtr_loads(tmp_path: Path) -> None:
    """The T5 encoder and the layer in 2_Dense give MaxSim over normalised token vectors."""
    folder = tiny.t5(tmp_path / "xtr", "T5EncoderModel")
    (folder / "2_Dense").mkdir()
    torch.manual_seed(2)
    weight = torch.randn(4, 16)
    torch.save({"linear.weight": weight}, folder / "2_Dense" / "pytorch_model.bin")
    model = load(folder)
    assert isinstance(model, XTR)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.T5EncoderModel.from_pretrained(folder)

    def vectors(text: str) -> torch.Tensor:
        with torch.no_grad():
            states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        return torch.nn.functional.normalize(states @ weight.T, dim=-1)

    expected = [[float((vectors(q) @ vectors(d).T).amax(1).sum()) for d in tiny.DOCUMENTS] for q in tiny.QUERIES]
    assert_equal_but_for_rounding(scores_of(model), expected)


@pytest.mark.parametrize(
    ("architecture", "activation"),
    [
        ("Bert", "Identity"),
        ("Electra", "Sigmoid"),
        ("Roberta", "Sigmoid"),
        ("DistilBert", "Tanh"),
        ("ModernBert", "ReLU"),
    ],
)
def test_a_cross_encoder_scores_the_same_in_sentence_transformers(
    architecture: str, activation: str, tmp_path: Path
) -> None:
    """Scores, with the activation that the folder names, are equal whichever library saved it."""
    config = tiny_config(architecture, num_labels=1)
    start = tiny.make(tmp_path / "start", getattr(transformers, f"{architecture}ForSequenceClassification"), config)
    theirs = CrossEncoder(str(start), activation_fn=getattr(torch.nn, activation)(), device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    pairs = [(q, d) for q in tiny.QUERIES for d in tiny.DOCUMENTS]
    expected = np.asarray(theirs.predict(pairs)).reshape(2, -1)
    ours = load(tmp_path / "theirs")
    assert isinstance(ours, Mono)
    assert_equal_but_for_rounding(scores_of(ours), expected)
    save(ours, tmp_path / "ours")
    again = np.asarray(CrossEncoder(str(tmp_path / "ours"), device="cpu").predict(pairs)).reshape(2, -1)
    assert_equal_but_for_rounding(again, expected)


@pytest.mark.parametrize("key", ["sentence_transformers", "sbert_ce_default_activation_function"])
def test_the_activation_of_an_old_cross_encoder_is_read_from_config_json(key: str, tmp_path: Path) -> None:
    """The keys of versions before 6 and before 4 are read, rather than the default Sigmoid applied."""
    folder = tiny.bert(tmp_path, "BertForSequenceClassification", num_labels=1)
    by_default = scores_of(load(folder))
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    name = "torch.nn.modules.linear.Identity"
    config[key] = {"activation_fn": name} if key == "sentence_transformers" else name
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    np.testing.assert_allclose(torch.sigmoid(torch.tensor(scores_of(load(folder)))).numpy(), by_default, atol=1e-5)


def test_a_decoder_with_logit_score_scores_the_same_in_sentence_transformers(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """The template is the chat template; the score is the difference of two logits, through the activation."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["decoder"])
    tokenizer.chat_template = (
        "Query: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }} "
        "Document: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }} Relevant:"
    )
    shutil.copytree(folders["decoder"], tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    transformer = Transformer(str(tmp_path / "start"), transformer_task="text-generation")
    yes, no = tiny.WORDS.index("yes"), tiny.WORDS.index("no")
    theirs = CrossEncoder(modules=[transformer, LogitScore(true_token_id=yes, false_token_id=no)], device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    pairs = [(q, d) for q in tiny.QUERIES for d in tiny.DOCUMENTS]
    expected = np.asarray(theirs.predict(pairs)).reshape(2, -1)
    ours = load(tmp_path / "theirs")
    assert isinstance(ours, TokenLogit)
    assert (ours.template, ours.true_token, ours.activation) == (TEMPLATE, "yes", "Sigmoid")
    assert_equal_but_for_rounding(scores_of(ours), expected)
    save(ours, tmp_path / "ours")
    again = np.asarray(CrossEncoder(str(tmp_path / "ours"), device="cpu").predict(pairs)).reshape(2, -1)
    assert_equal_but_for_rounding(again, expected)


@pytest.mark.parametrize("family", ["mono_t5", "rank_t5"])
def test_a_bare_t5_loads_as_a_monot5_or_the_configured_rankt5(family: str, folders: dict[str, Path]) -> None:
    """The scores equal those computed with transformers for the template and tokens of either."""
    settings = {"template": "Query: {query} Document: {document}", "true_token": "<extra_id_10>", "false_token": None}
    like = partial(TokenLogit, **settings) if family == "rank_t5" else None  # type: ignore[arg-type]
    model = load(folders["t5"], like=like)  # type: ignore[arg-type]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["t5"])
    t5 = transformers.AutoModelForSeq2SeqLM.from_pretrained(folders["t5"])
    template = settings["template"] if family == "rank_t5" else TEMPLATE
    expected = []
    for q in tiny.QUERIES:
        row = []
        for d in tiny.DOCUMENTS:
            inputs = tokenizer(str(template).format(query=q, document=d), return_tensors="pt")
            with torch.no_grad():
                logits = t5(**inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
            pair = logits[[tiny.WORDS.index("▁false"), tiny.WORDS.index("▁true")]]
            one = logits[tiny.WORDS.index("<extra_id_10>")]
            row.append(float(one if family == "rank_t5" else torch.log_softmax(pair, dim=0)[1]))
        expected.append(row)
    assert_equal_but_for_rounding(scores_of(model), expected)


def test_monobert_loads(tmp_path: Path) -> None:
    """The score of a sequence classifier with two logits is the log-probability of the second."""
    folder = tiny.bert(tmp_path, "BertForSequenceClassification", num_labels=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    bert = transformers.BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        expected = [
            [
                float(torch.log_softmax(bert(**tokenizer(q, d, return_tensors="pt")).logits[0], dim=0)[1])
                for d in tiny.DOCUMENTS
            ]
            for q in tiny.QUERIES
        ]
    assert_equal_but_for_rounding(scores_of(load(folder)), expected)
