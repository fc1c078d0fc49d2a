"""Every checkpoint format, in both directions, against the scores of its home library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import UserError
from tests import tiny

FIXTURES = Path(__file__).parents[1] / "data" / "checkpoint"

TEMPLATE = "Query: {query} Document: {document} Relevant:"


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with its masked-language-model head."""
    return tiny.bert(tmp_path_factory.mktemp("bert"), "BertForMaskedLM")


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny encoder-decoder and a tiny decoder."""
    return {"t5": tiny.t5(tmp_path_factory.mktemp("t5")), "decoder": tiny.decoder(tmp_path_factory.mktemp("decoder"))}


def scores_of(model: Model) -> list[list[float]]:
    """What the model makes of the queries and documents of `tests.tiny`."""
    scores: list[list[float]] = model.score(tiny.QUERIES, tiny.DOCUMENTS).tolist()
    return scores


@pytest.mark.parametrize("name", ["pylate", "stanford", "set_encoder"])
def test_what_another_library_saved_scores_as_it_does_there(name: str) -> None:
    """Folders and scores made by tests/data/make_checkpoints.py in that library's own environment."""
    recorded = json.loads((FIXTURES / name / "scores.json").read_text(encoding="utf8"))
    model = load(FIXTURES / name)
    found = model.score(recorded["queries"], recorded["documents"]).numpy()
    np.testing.assert_allclose(found, recorded["scores"], atol=1e-4)
    assert np.ptp(recorded["scores"]) > 0.1


MAKE: dict[str, Callable[[dict[str, HuggingFaceBackbone]], Model]] = {
    "splade": lambda b: SPLADE(b["bert"], activation="log1p_log1p", pooling="sum"),
    "splade_lexical": lambda b: SPLADE(b["bert"], query_encoding="lexical", document_encoding="lexical"),
    "splade_static": lambda b: SPLADE(b["bert"], query_encoding="static"),
    "splade_binary": lambda b: SPLADE(b["bert"], query_encoding="binary"),
    "unicoil": lambda b: UniCOIL(b["bert"]),
    "coil": lambda b: COIL(b["bert"], token_dim=4, cls_dim=6),
    "coil_without_cls": lambda b: COIL(b["bert"], token_dim=4, cls_dim=0),
    "colbert": lambda b: ColBERT(b["bert"], dim=4, query_length=12, attend_to_expansion=True),
    "colbert_plain": lambda b: ColBERT(
        b["bert"], dim=4, query_expansion=False, mask_punctuation=False, query_marker="[Q] ", document_marker="[D] "
    ),
    "xtr": lambda b: XTR(b["t5"], dim=4, k_train=7, query_length=9),
    "mvr": lambda b: MVR(b["bert"], viewers=3),
    "mono": lambda b: Mono(b["bert"], activation="Sigmoid"),
    "mono_two": lambda b: Mono(b["bert"], labels=2),
    "mono_t5": lambda b: TokenLogit(b["t5"]),
    "rank_t5": lambda b: TokenLogit(b["t5"], true_token="<extra_id_10>", false_token=None),
    "decoder": lambda b: TokenLogit(
        b["decoder"], template=TEMPLATE, true_token="yes", false_token="no", score="log_odds", special_tokens=False
    ),
    "set_encoder": lambda b: SetEncoder(b["bert"], extra_token=True),
    "dense_decoder": lambda b: DenseBiEncoder(b["decoder"], pooling="last", append_eos=True, truncate_dim=8),
}


@pytest.fixture(scope="module")
def backbones(masked_lm: Path, languages: dict[str, Path]) -> dict[str, HuggingFaceBackbone]:
    """By kind."""
    folders = {"bert": masked_lm, **languages}
    return {kind: HuggingFaceBackbone(str(folder)) for kind, folder in folders.items()}


@pytest.mark.parametrize("name", MAKE)
def test_what_is_saved_opens_as_the_same_model(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Kind, name, lengths and scores survive, for every family and setting."""
    torch.manual_seed(5)
    model = MAKE[name](backbones).eval()
    if isinstance(model, SPLADE) and model.static_weights is not None:
        model.static_weights.data = torch.rand(model.embedding_dim)
    model.name = name
    save(model, tmp_path)
    opened = load(tmp_path)
    assert type(opened) is type(model)
    assert (opened.name, opened.query_length, opened.document_length) == (
        name,
        model.query_length,
        model.document_length,
    )
    np.testing.assert_allclose(scores_of(opened), scores_of(model), atol=1e-5)
    assert load(tmp_path, name="other", query_length=8).query_length == 8
    save(opened, tmp_path / "again")
    np.testing.assert_allclose(scores_of(load(tmp_path / "again")), scores_of(model), atol=1e-5)


def test_a_saved_xtr_keeps_what_it_is_trained_with(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """The number of retrieved tokens matters in training only, and would be lost unseen."""
    save(MAKE["xtr"](backbones), tmp_path)
    opened = load(tmp_path)
    assert isinstance(opened, XTR)
    assert opened.k_train == 7


@pytest.mark.parametrize("name", ["splade", "splade_static", "splade_binary"])
def test_splade_opens_in_sentence_transformers(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Saved here, equal scores there."""
    model = MAKE[name](backbones).eval()
    assert isinstance(model, SPLADE)
    if model.static_weights is not None:
        model.static_weights.data = torch.rand(model.embedding_dim)
    save(model, tmp_path)
    theirs = SparseEncoder(str(tmp_path), device="cpu")
    queries, documents = theirs.encode_query(tiny.QUERIES), theirs.encode_document(tiny.DOCUMENTS)
    found = (queries.to_dense() @ documents.to_dense().T).numpy()
    np.testing.assert_allclose(found, scores_of(model), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "router"])
@pytest.mark.parametrize("architecture", ["Bert", "DistilBert", "Roberta", "ModernBert"])
def test_what_sentence_transformers_saves_as_sparse_opens_here(kind: str, architecture: str, tmp_path: Path) -> None:
    """SparseEncoder folders over every head, and document-only ones whose queries are static weights."""
    start = tmp_path / "start"
    settings: dict[str, Any] = {"vocab_size": len(tiny.WORDS), "hidden_size": 16, "num_hidden_layers": 1}
    settings |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 66, "pad_token_id": 0}
    if architecture == "DistilBert":
        settings = {"vocab_size": len(tiny.WORDS), "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24}
    if architecture == "ModernBert":
        settings |= {key: 1 for key in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")}
    config = getattr(transformers, f"{architecture}Config")(**settings, initializer_range=0.5)
    tiny.make(start, getattr(transformers, f"{architecture}ForMaskedLM"), config)
    theirs = SparseEncoder(str(start), device="cpu")
    if kind == "router":
        static = SparseStaticEmbedding(theirs.tokenizer, weight=torch.rand(len(tiny.WORDS)))
        encoder: list[Any] = [theirs[0], theirs[1]]
        modules = Router.for_query_document(query_modules=[static], document_modules=encoder)
        theirs = SparseEncoder(modules=[modules], device="cpu")
    theirs.save(str(tmp_path / "saved"))
    queries, documents = theirs.encode_query(tiny.QUERIES), theirs.encode_document(tiny.DOCUMENTS)
    expected = (queries.to_dense() @ documents.to_dense().T).numpy()
    ours = load(tmp_path / "saved")
    assert isinstance(ours, SPLADE)
    np.testing.assert_allclose(scores_of(ours), expected, atol=1e-4)
    assert ours.query_encoding == ("static" if kind == "router" else "mlm")


def test_a_plain_masked_language_model_is_what_the_configuration_says(masked_lm: Path) -> None:
    """Naver's folders without a list of modules: SPLADE where that is configured, else the encoder of a dense model."""
    like = partial(SPLADE, query_encoding="lexical", document_encoding="mlm")
    opened = load(masked_lm, like=like)  # type: ignore[arg-type]
    assert isinstance(opened, SPLADE)
    assert opened.query_encoding == "lexical"
    assert isinstance(load(masked_lm), DenseBiEncoder)


def test_the_weights_at_hand_have_the_similarities_of_their_readme() -> None:
    """splade_tiny (rasyosef/splade-tiny): three sentences with one another, as its model card says."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    backbone = instantiate(OmegaConf.load(Path(__file__).parents[2] / "conf" / "backbone" / "splade_tiny.yaml"))
    model = load(backbone.location()[0], like=partial(SPLADE))  # type: ignore[arg-type]
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    expected = [[39.7253, 7.1662, 0.0], [7.1662, 27.0255, 0.1385], [0.0, 0.1385, 26.3539]]
    np.testing.assert_allclose(model.score(sentences, sentences).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["colbert", "colbert_plain"])
def test_colbert_opens_in_sentence_transformers(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Saved here in PyLate's layout; MultiVectorEncoder reads it, and scores the same."""
    torch.manual_seed(5)
    model = MAKE[name](backbones).eval()
    save(model, tmp_path)
    theirs = MultiVectorEncoder(str(tmp_path), device="cpu")
    queries = theirs.encode_query(tiny.QUERIES)
    documents = theirs.encode_document(tiny.DOCUMENTS)
    expected = [[float((q @ d.T).amax(dim=1).sum()) for d in documents] for q in queries]
    np.testing.assert_allclose(scores_of(model), expected, atol=1e-4)


def test_what_sentence_transformers_saves_as_multi_vector_opens_here(tmp_path: Path) -> None:
    """MultiVectorEncoder's own layout, made of a folder of PyLate."""
    theirs = MultiVectorEncoder(str(FIXTURES / "pylate"), device="cpu")
    theirs.save(str(tmp_path / "saved"))
    recorded = json.loads((FIXTURES / "pylate" / "scores.json").read_text(encoding="utf8"))
    found = load(tmp_path / "saved").score(recorded["queries"], recorded["documents"]).numpy()
    np.testing.assert_allclose(found, recorded["scores"], atol=1e-4)


def test_googles_xtr_opens(tmp_path: Path) -> None:
    """A T5 encoder and a linear layer in 2_Dense, with MaxSim over normalised tokens."""
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
    np.testing.assert_allclose(scores_of(model), expected, atol=1e-4)


@pytest.mark.parametrize("activation", ["Identity", "Sigmoid"])
def test_cross_encoders_of_sentence_transformers_both_ways(activation: str, tmp_path: Path) -> None:
    """A saved CrossEncoder with the activation that it names, and one that is saved here."""
    start = tiny.bert(tmp_path / "start", "BertForSequenceClassification", num_labels=1)
    theirs = CrossEncoder(str(start), activation_fn=getattr(torch.nn, activation)(), device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    pairs = [(q, d) for q in tiny.QUERIES for d in tiny.DOCUMENTS]
    expected = np.asarray(theirs.predict(pairs)).reshape(2, -1)
    ours = load(tmp_path / "theirs")
    assert isinstance(ours, Mono)
    np.testing.assert_allclose(scores_of(ours), expected, atol=1e-4)
    save(ours, tmp_path / "ours")
    again = np.asarray(CrossEncoder(str(tmp_path / "ours"), device="cpu").predict(pairs)).reshape(2, -1)
    np.testing.assert_allclose(again, expected, atol=1e-4)


@pytest.mark.parametrize("key", ["sentence_transformers", "sbert_ce_default_activation_function"])
def test_old_cross_encoder_folders_name_their_activation_in_the_configuration(key: str, tmp_path: Path) -> None:
    """Versions before 6 and before 4."""
    folder = tiny.bert(tmp_path, "BertForSequenceClassification", num_labels=1)
    plain = scores_of(load(folder))
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    name = "torch.nn.modules.activation.Sigmoid"
    config[key] = {"activation_fn": name} if key == "sentence_transformers" else name
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    np.testing.assert_allclose(scores_of(load(folder)), torch.sigmoid(torch.tensor(plain)).numpy(), atol=1e-5)


def test_decoders_with_logit_score_both_ways(languages: dict[str, Path], tmp_path: Path) -> None:
    """What is read is the chat template; the score is the difference of two logits, through the activation."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(languages["decoder"])
    tokenizer.chat_template = (
        "Query: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }} "
        "Document: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }} Relevant:"
    )
    shutil.copytree(languages["decoder"], tmp_path / "start")
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
    np.testing.assert_allclose(scores_of(ours), expected, atol=1e-4)
    save(ours, tmp_path / "ours")
    again = np.asarray(CrossEncoder(str(tmp_path / "ours"), device="cpu").predict(pairs)).reshape(2, -1)
    np.testing.assert_allclose(again, expected, atol=1e-4)


@pytest.mark.parametrize("family", ["mono_t5", "rank_t5"])
def test_t5_re_rankers_by_the_configuration(family: str, languages: dict[str, Path]) -> None:
    """A bare T5 says nothing of its template: monoT5 unless RankT5 is configured; scored as transformers does."""
    settings = {"template": "Query: {query} Document: {document}", "true_token": "<extra_id_10>", "false_token": None}
    like = partial(TokenLogit, **settings) if family == "rank_t5" else None  # type: ignore[arg-type]
    model = load(languages["t5"], like=like)  # type: ignore[arg-type]
    tokenizer = transformers.AutoTokenizer.from_pretrained(languages["t5"])
    t5 = transformers.AutoModelForSeq2SeqLM.from_pretrained(languages["t5"])
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
    np.testing.assert_allclose(scores_of(model), expected, atol=1e-4)


def test_monobert_opens(tmp_path: Path) -> None:
    """A sequence classifier with two logits: the log-probability of the second."""
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
    np.testing.assert_allclose(scores_of(load(folder)), expected, atol=1e-4)


def test_castorinis_unicoil_opens(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """All weights under `coil_encoder.`, as in castorini/unicoil-noexp-msmarco-passage."""
    torch.manual_seed(5)
    model = MAKE["unicoil"](backbones).eval()
    save(model, tmp_path)
    state = {f"coil_encoder.{name}": value for name, value in load_file(tmp_path / "model.safetensors").items()}
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "irexp.json").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    opened = load(tmp_path)
    assert isinstance(opened, UniCOIL)
    np.testing.assert_allclose(scores_of(opened), scores_of(model), atol=1e-5)


def test_coils_own_folders_open(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """Recognised by model.pt; a layer norm of a later variant is named and refused."""
    torch.manual_seed(5)
    model = MAKE["coil"](backbones).eval()
    save(model, tmp_path)
    (tmp_path / "irexp.json").unlink()
    opened = load(tmp_path)
    assert isinstance(opened, COIL)
    np.testing.assert_allclose(scores_of(opened), scores_of(model), atol=1e-5)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save(state | {"ln_tok.weight": torch.ones(4)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"unexpected weights \['ln_tok.weight'\]"):
        load(tmp_path)


def test_a_folder_that_fits_nothing_is_refused_with_what_was_looked_for(masked_lm: Path, tmp_path: Path) -> None:
    """No checkpoint at all; one without what the configured model needs; a family of the future."""
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"is no checkpoint: it has none of irexp.json.* but notes.txt"):
        load(tmp_path)
    with pytest.raises(UserError, match="with nothing of a ColBERT beside it"):
        load(masked_lm, like=partial(ColBERT))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"without the layer that model\.projection_dim asks for"):
        load(masked_lm, like=partial(DenseBiEncoder, projection_dim=4))  # type: ignore[arg-type]
    (tmp_path / "irexp.json").write_text('{"family": "of the future"}')
    with pytest.raises(UserError, match="the family 'of the future' is not known"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["unicoil", "colbert", "set_encoder", "mono"])
def test_a_missing_weight_is_named(name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """A damaged file is no model with a layer drawn anew."""
    save(MAKE[name](backbones), tmp_path)
    lost = {"unicoil": "tok_proj.bias", "colbert": "linear.weight", "set_encoder": "linear.weight"}
    path = tmp_path / ("1_Dense/model.safetensors" if name == "colbert" else "model.safetensors")
    state = load_file(path)
    state.pop(lost.get(name, "classifier.weight"))
    save_file(state, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"missing weights|lacks 1 weights"):
        load(tmp_path)


def test_a_pickle_that_runs_code_is_refused(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """Anything but tensors in a torch file ends the loading, not the machine."""
    import pickle

    save(MAKE["coil"](backbones), tmp_path)

    class Harm:
        """What would write a file when it is unpickled."""

        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"tok_proj.weight": Harm()}, tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError):
        load(tmp_path)
    assert not (tmp_path / "harm").exists()
