"""Every model's scores against its paper's formula, computed in loops over the encoder's hidden states."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.batching import TokenBudget
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.shared import SharedBiEncoder
from irexp.model.splade import SPLADE
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import Tokens
from tests import tiny

QUERY, DOCUMENT = "list all buckets, list all", "list a bucket and all of the buckets."


@pytest.fixture
def masked_lm(backbones: dict[str, HuggingFaceBackbone]) -> HuggingFaceBackbone:
    """A tiny BERT with its masked-language-model head."""
    return backbones["encoder"]


def hidden(model: Any, ids: list[int]) -> Tensor:
    """The encoder's last layer for one text alone, (L, H)."""
    with torch.no_grad():
        tensor = torch.tensor([ids])
        output: Tensor = model.encoder(input_ids=tensor, attention_mask=torch.ones_like(tensor)).last_hidden_state[0]
    return output


def both(model: SharedBiEncoder) -> tuple[list[int], list[int]]:
    """The token ids of the query and of the document."""
    return model.tokenize_queries([QUERY])[0], model.tokenize_documents([DOCUMENT])[0]


def is_word(token: int) -> bool:
    """Whether a token is not a special token."""
    return tiny.WORDS[token] not in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.mark.parametrize("query_encoding", ["mlm", "lexical", "static", "binary"])
@pytest.mark.parametrize(("pooling", "activation"), [("max", "log1p"), ("sum", "log1p_log1p")])
def test_splade_is_its_formula(
    masked_lm: HuggingFaceBackbone, query_encoding: Any, pooling: Any, activation: Any
) -> None:
    """Weights are the pooled log(1 + relu(logit)); lexical, static and binary queries contain only their own words."""
    model = SPLADE(masked_lm, query_encoding=query_encoding, pooling=pooling, activation=activation).eval()
    if model.static_weights is not None:
        model.static_weights.data = torch.linspace(0, 2, model.embedding_dim)
    whole: Any = masked_lm.load_masked_lm()
    whole.eval()

    def weights(ids: list[int]) -> list[float]:
        with torch.no_grad():
            logits = whole(input_ids=torch.tensor([ids])).logits[0]
        columns = []
        for v in range(len(tiny.WORDS)):
            values = [math.log1p(max(0.0, float(logits[token, v]))) for token in range(len(ids))]
            values = [math.log1p(value) for value in values] if activation == "log1p_log1p" else values
            columns.append(max(values) if pooling == "max" else sum(values))
        return columns

    query_ids, document_ids = both(model)
    query, document = weights(query_ids), weights(document_ids)
    words = {token for token in query_ids if is_word(token)}
    for v in range(len(tiny.WORDS)):
        if query_encoding != "mlm" and v not in words:
            query[v] = 0.0
        elif query_encoding in ("static", "binary"):
            query[v] = 1.0 if model.static_weights is None else float(model.static_weights.data[v])
    expected = sum(q * d for q, d in zip(query, document, strict=True))
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(expected, rel=1e-4)


def test_unicoil_is_its_formula(masked_lm: HuggingFaceBackbone) -> None:
    """Each query word's weight times the largest weight of the same document word; repeated query words count twice."""
    torch.manual_seed(1)
    model = UniCOIL(masked_lm).eval()
    query_ids, document_ids = both(model)
    weight = [
        torch.relu(model.token_projection(hidden(model, ids))).flatten().tolist() for ids in (query_ids, document_ids)
    ]
    expected = 0.0
    for i, token in enumerate(query_ids):
        matches = [weight[1][j] for j, other in enumerate(document_ids) if other == token and is_word(token)]
        expected += weight[0][i] * max(matches, default=0.0)
    assert expected > 0
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cls_dim", [0, 6, 16])
def test_coil_is_its_formula(masked_lm: HuggingFaceBackbone, cls_dim: int) -> None:
    """The text vectors' inner product, plus each query word's best match with the same document word, at least 0."""
    torch.manual_seed(1)
    model = COIL(masked_lm, token_dim=4, cls_dim=cls_dim).eval()
    query_ids, document_ids = both(model)
    query, document = hidden(model, query_ids), hidden(model, document_ids)
    expected = 0.0
    if model.cls_projection is not None:
        expected += float((model.cls_projection(query[0]) @ model.cls_projection(document[0])).detach())
    query, document = model.token_projection(query).detach(), model.token_projection(document).detach()
    for i, token in enumerate(query_ids):
        matches = [float(query[i] @ document[j]) for j, other in enumerate(document_ids) if other == token]
        expected += max([0.0, *matches]) if is_word(token) else 0.0
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(expected, rel=1e-4)
    assert in_training(model) == pytest.approx(expected, rel=1e-4)


def in_training(model: SharedBiEncoder) -> float:
    """The score as the training step computes it, in a batch with other texts."""
    queries = model.pad(model.tokenize_queries(["stop", QUERY]), is_query=True)
    documents = model.pad(
        model.tokenize_documents(["a", DOCUMENT, "stop all instances and delete the queue"]), is_query=False
    )
    with torch.no_grad():
        (score_BN,) = model.similarity(model.encode_queries(queries), model.encode_documents(documents))
    return float(score_BN[1, 1])


@pytest.mark.parametrize("attend", [False, True])
def test_colbert_is_its_formula(masked_lm: HuggingFaceBackbone, attend: bool) -> None:
    """Each of the query's 12 vectors, [MASK] included, with the best document vector, punctuation excluded."""
    torch.manual_seed(1)
    model = ColBERT(masked_lm, dim=4, query_length=12, document_length=20, attend_to_expansion=attend).eval()
    query_ids, document_ids = both(model)
    marker, mask = tiny.WORDS.index("[unused0]"), tiny.WORDS.index("[MASK]")
    assert query_ids[1] == marker
    assert document_ids[1] == tiny.WORDS.index("[unused1]")
    expanded = query_ids + [mask] * (12 - len(query_ids))
    seen = torch.tensor([[1] * (12 if attend else len(query_ids)) + [0] * (0 if attend else 12 - len(query_ids))])
    with torch.no_grad():
        states = model.encoder(input_ids=torch.tensor([expanded]), attention_mask=seen).last_hidden_state[0]

    def vectors(states: Tensor) -> list[Tensor]:
        projected = [model.projections[0](state).detach() for state in states]
        return [vector / vector.norm() for vector in projected]

    kept = [
        vector
        for vector, token in zip(vectors(hidden(model, document_ids)), document_ids, strict=True)
        if tiny.WORDS[token] not in ".,;()"
    ]
    assert len(kept) == len(document_ids) - 1
    expected = sum(max(float(q @ d) for d in kept) for q in vectors(states))
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(expected, rel=1e-4)
    assert in_training(model) == pytest.approx(expected, rel=1e-4)


def test_a_document_of_punctuation_only_keeps_its_vectors(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """Without special tokens it would have no vector, and so no score; training and search score it the same."""
    settings: dict[str, Any] = {"dim": 4, "query_marker": None, "document_marker": None, "query_expansion": False}
    model = ColBERT(backbones["decoder"], **settings).eval()
    kept = ColBERT(backbones["decoder"], **settings, mask_punctuation=False)
    found = model.score(QUERY, [". , ;", "list"])
    kept.load_state_dict(model.state_dict())
    torch.testing.assert_close(found, kept.eval().score(QUERY, [". , ;", "list"]))
    query = model.encode_queries(model.pad(model.tokenize_queries([QUERY]), is_query=True))
    document = model.encode_documents(model.pad(model.tokenize_documents([". , ;", "list"]), is_query=False))
    torch.testing.assert_close(model.similarity(query, document)[0][0].detach(), found)


def test_xtr_in_training_is_its_formula(masked_lm: HuggingFaceBackbone) -> None:
    """Each query token keeps its k nearest tokens of the batch; a score is the mean over query tokens that keep one."""
    torch.manual_seed(1)
    model = XTR(masked_lm, dim=4, k_train=3)
    for dropout in model.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0
    queries = model.pad(model.tokenize_queries(tiny.QUERIES), is_query=True)
    documents = model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False)
    with torch.no_grad():
        query, document = model.encode_queries(queries), model.encode_documents(documents)
        (found,) = model.train().similarity(query, document)
    for b in range(len(tiny.QUERIES)):
        all_tokens = [
            (n, document.vectors_BLH[n, j])
            for n in range(len(tiny.DOCUMENTS))
            for j in range(int(document.mask_BL[n].sum()))
        ]
        totals, counts = [0.0] * len(tiny.DOCUMENTS), [0] * len(tiny.DOCUMENTS)
        for i in range(int(query.mask_BL[b].sum())):
            nearest = sorted(((float(query.vectors_BLH[b, i] @ v), n) for n, v in all_tokens), reverse=True)[:3]
            for n in {n for _, n in nearest}:
                totals[n] += max(s for s, m in nearest if m == n)
                counts[n] += 1
        expected = [total / max(1, number) for total, number in zip(totals, counts, strict=True)]
        assert found[b].tolist() == pytest.approx(expected, abs=1e-5)


def test_xtr_outside_of_training_is_the_sum_over_all_query_tokens(masked_lm: HuggingFaceBackbone) -> None:
    """Each query token counts with its best document token, whatever k_train is, without a mean."""
    torch.manual_seed(1)
    model = XTR(masked_lm, dim=4, k_train=1).eval()
    query, document = (
        torch.nn.functional.normalize(model.projections[0](hidden(model, ids)).detach(), dim=-1) for ids in both(model)
    )
    expected = sum(max(float(q @ d) for d in document) for q in query)
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(expected, rel=1e-4)
    assert in_training(model) == pytest.approx(expected, rel=1e-4)


def test_mvr_is_its_formula(masked_lm: HuggingFaceBackbone) -> None:
    """The score is the largest inner product of the query's viewer with a document's viewers."""
    torch.manual_seed(1)
    model = MVR(masked_lm, viewers=3).eval()
    query_ids, document_ids = both(model)
    query, viewers = hidden(model, query_ids)[1], hidden(model, document_ids)[1:4]
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(max(float(query @ v) for v in viewers), rel=1e-4)
    assert query_ids[0] == document_ids[0] == tiny.WORDS.index("[CLS]")
    assert len({tuple(ids[1:4]) for ids in model.tokenize_documents(["a", "list"])}) == 1


@pytest.mark.parametrize("labels", [1, 2])
def test_mono_is_its_formula(tmp_path: Path, labels: Any) -> None:
    """The classifier's logit, or the log-probability of the second of two logits, through the reported sigmoid."""
    folder = tiny.bert(tmp_path, "BertForSequenceClassification", num_labels=labels)
    model = Mono(HuggingFaceBackbone(str(folder)), labels=labels, activation="Sigmoid", has_head=True).eval()
    pair = model.tokenizer(QUERY, DOCUMENT, return_tensors="pt")
    with torch.no_grad():
        logits = model.encoder(**pair).logits[0].tolist()
    score = logits[0] if labels == 1 else logits[1] - math.log(sum(map(math.exp, logits)))
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(1 / (1 + math.exp(-score)), rel=1e-4)


@pytest.mark.parametrize("extra_token", [False, True])
def test_set_encoder_is_its_formula(tmp_path: Path, extra_token: bool) -> None:
    """One layer computed by hand attends to a document's own tokens and the other documents' interaction tokens."""
    folder = tiny.bert(tmp_path, "BertModel", num_hidden_layers=1)
    torch.manual_seed(1)
    model = SetEncoder(HuggingFaceBackbone(str(folder)), extra_token=extra_token).eval()
    pairs = model.tokenize_pairs([QUERY] * 3, tiny.DOCUMENTS[:3])
    encoder: Any = model.encoder
    layer = encoder.encoder.layer[0]
    with torch.no_grad():
        states = []
        for ids, types in pairs:
            states.append(encoder.embeddings(torch.tensor([ids]), torch.tensor([types]))[0])
        place = int(extra_token)
        scores = []
        for d, state in enumerate(states):
            keys = torch.cat([state, *(other[place][None] for o, other in enumerate(states) if o != d)])
            heads = []
            for head in range(2):
                part = slice(8 * head, 8 * head + 8)
                query = layer.attention.self.query(state)[:, part]
                key, value = layer.attention.self.key(keys)[:, part], layer.attention.self.value(keys)[:, part]
                heads.append(torch.softmax(query @ key.T / math.sqrt(8), dim=-1) @ value)
            attended = layer.attention.output(torch.cat(heads, dim=-1), state)
            output = layer.output(layer.intermediate(attended), attended)
            scores.append(float(model.linear(output[0])))
    assert model.score(QUERY, tiny.DOCUMENTS[:3]).tolist() == pytest.approx(scores, rel=1e-4)


def test_a_set_encoder_uses_the_whole_list_but_not_its_order(tmp_path: Path) -> None:
    """Permuting the documents permutes the scores; removing a document changes them."""
    torch.manual_seed(1)
    model = SetEncoder(HuggingFaceBackbone(str(tiny.bert(tmp_path)))).eval()
    scores = model.score(QUERY, tiny.DOCUMENTS)
    torch.testing.assert_close(model.score(QUERY, tiny.DOCUMENTS[::-1]), scores.flip(0), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.score(QUERY, tiny.DOCUMENTS[:3]), scores[:3], atol=1e-3)
    together = model.score_lists([(QUERY, tiny.DOCUMENTS), ("stop", tiny.DOCUMENTS[:2])])
    torch.testing.assert_close(together[0], scores, atol=1e-5, rtol=1e-5)


def test_a_list_above_the_budget_is_one_batch_with_a_warning(
    masked_lm: HuggingFaceBackbone, caplog: pytest.LogCaptureFixture
) -> None:
    """The list is not split, since its documents see one another; the warning comes once and says what to lower."""
    model = SetEncoder(masked_lm).eval()
    expected = model.score(QUERY, tiny.DOCUMENTS)
    assert caplog.text == ""
    for _ in range(2):
        torch.testing.assert_close(model.score_lists([(QUERY, tiny.DOCUMENTS)], budget=TokenBudget(50))[0], expected)
    assert caplog.text.count("4 documents have up to") == 1
    assert "more than the budget of 50; if memory runs out, lower re_rank.depth" in caplog.text


def test_matryoshka_scores_are_those_of_truncated_vectors(masked_lm: HuggingFaceBackbone) -> None:
    """In training each number of leading dimensions gives its own scores, equal to those with `truncate_dim`."""
    model = DenseBiEncoder(masked_lm, matryoshka_dims=[4, 8]).eval()
    cut = DenseBiEncoder(masked_lm, truncate_dim=4).eval()
    query = model.pad(model.tokenize_queries([QUERY]), is_query=True)
    document = model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False)
    with torch.no_grad():
        encoded = model.encode_queries(query), model.encode_documents(document)
        assert len(model.similarity(*encoded)) == 1
        whole, four, eight = model.train().similarity(*encoded)
    torch.testing.assert_close(four[0], cut.score(QUERY, tiny.DOCUMENTS), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole[0], model.eval().score(QUERY, tiny.DOCUMENTS), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole, eight)


def test_a_masked_token_never_wins_maxsim(masked_lm: HuggingFaceBackbone) -> None:
    """A masked token with a huge vector changes no score."""
    from dataclasses import replace

    from irexp.model.maxsim import maxsim

    model = ColBERT(masked_lm, dim=4).eval()
    with torch.no_grad():
        query = model.encode_queries(model.pad(model.tokenize_queries([QUERY]), is_query=True))
        tokens: Tokens = model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False)
        document = model.encode_documents(tokens)
    expected = maxsim(query, document)
    spoilt = document.vectors_BLH.masked_fill(~document.mask_BL.bool()[:, :, None], 1e6)
    torch.testing.assert_close(maxsim(query, replace(document, vectors_BLH=spoilt)), expected)
