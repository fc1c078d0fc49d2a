"""Vectors whose leading dimensions are trained and searched: of a text, of its tokens and of its viewers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from irexp import build_index, component, encode, load, save, search
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.check import config_faults
from irexp.dataset.in_memory import TextTopics
from irexp.index.vectors import TokenVectors
from irexp.model.bi_encoder import Encoded
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.matryoshka import Nested
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.xtr import XTR
from irexp.types import Embeddings, UserError
from tests import tiny

Make = Callable[..., Nested]
Vector = list[float]

#: A model of each kind whose vectors can be cut, and the most nearest tokens that its training scores use.
MAKE: dict[str, Callable[[HuggingFaceBackbone], Make]] = {
    "cosine": lambda b: partial(DenseBiEncoder, b),
    "dot": lambda b: partial(DenseBiEncoder, b, similarity="dot"),
    "colbert": lambda b: partial(ColBERT, b, dim=8, query_length=12),
    "xtr": lambda b: partial(XTR, b, dim=8, k_train=3),
    "mvr": lambda b: partial(MVR, b, viewers=3),
}


@pytest.fixture(params=MAKE)
def make(request: pytest.FixtureRequest, backbones: dict[str, HuggingFaceBackbone]) -> Make:
    """Builds a model of each kind, with the same weights each time."""

    def seeded(**settings: Any) -> Nested:
        torch.manual_seed(1)
        return MAKE[request.param](backbones["encoder"])(**settings).eval()

    return seeded


def encoded(model: Nested) -> tuple[Encoded, Encoded]:
    """The queries and documents of `tests.tiny`, without dropout."""
    queries = model.pad(model.tokenize_queries(tiny.QUERIES), is_query=True)
    documents = model.pad(model.tokenize_documents(tiny.DOCUMENTS), is_query=False)
    with torch.no_grad():
        return model.encode_queries(queries), model.encode_documents(documents)


def leading(texts: Encoded, dim: int, *, is_normalized: bool) -> list[list[Vector]]:
    """The leading dimensions of the vectors of each text, divided by their length where the model normalises."""
    if isinstance(texts, Embeddings):
        rows = [[vector] for vector in texts.vectors_BH.tolist()]
    else:
        kept = zip(texts.vectors_BLH, texts.mask_BL.bool(), strict=True)
        rows = [vector_LH[mask_L].tolist() for vector_LH, mask_L in kept]
    cut = [[vector[:dim] for vector in row] for row in rows]
    lengths = [[math.sqrt(sum(x * x for x in v)) if is_normalized else 1.0 for v in row] for row in cut]
    return [
        [[x / length for x in v] for v, length in zip(row, of, strict=True)]
        for row, of in zip(cut, lengths, strict=True)
    ]


def max_sim(query: list[Vector], document: list[Vector]) -> float:
    """The sum over the query's vectors of the largest product with one of the document's."""
    return sum(max(sum(x * y for x, y in zip(q, d, strict=True)) for d in document) for q in query)


def retrieved(query: list[Vector], documents: list[list[Vector]], count: int) -> list[float]:
    """XTR's training scores: each vector of the query keeps its nearest ones among those of all documents."""
    totals, counts = [0.0] * len(documents), [0] * len(documents)
    for q in query:
        products = [(sum(x * y for x, y in zip(q, d, strict=True)), n) for n, row in enumerate(documents) for d in row]
        nearest = sorted(products, reverse=True)[:count]
        for n in {n for _, n in nearest}:
            totals[n] += max(product for product, m in nearest if m == n)
            counts[n] += 1
    return [total / max(1, number) for total, number in zip(totals, counts, strict=True)]


def test_each_number_of_dimensions_is_scored_by_vectors_cut_to_it(make: Make) -> None:
    """In training the whole vectors and those of 2 and 4 dimensions give scores, each by its formula in loops."""
    model = make(matryoshka_dims=[2, 4])
    query, document = encoded(model)
    assert len(model.similarity(query, document)) == 1
    scores = model.train().similarity(query, document)
    assert len(scores) == 3
    for score_BN, dim in zip(scores, (model.whole_dim, 2, 4), strict=True):
        queries, documents = (leading(texts, dim, is_normalized=model.is_normalized) for texts in (query, document))
        for row, of_query in enumerate(queries):
            expected = (
                retrieved(of_query, documents, model.k_train)
                if isinstance(model, XTR)
                else [max_sim(of_query, of_document) for of_document in documents]
            )
            assert score_BN[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_checkpoint_is_searched_by_its_leading_dimensions(make: Make, tmp_path: Path) -> None:
    """Cut when it is opened, by the call or by a configuration, it scores by its formula; an encoding holds the cut."""
    whole = make()
    query, document = encoded(whole)
    queries, documents = (leading(texts, 4, is_normalized=whole.is_normalized) for texts in (query, document))
    expected = torch.tensor([[max_sim(one, other) for other in documents] for one in queries])
    save(whole, tmp_path / "model")
    like: Any = partial(type(whole), truncate_dim=4, matryoshka_dims=[2])
    read = load(tmp_path / "model", like=like)
    for opened in (load(tmp_path / "model", truncate_dim=4), read):
        assert isinstance(opened, Nested)
        assert (opened.embedding_dim, opened.whole_dim) == (4, whole.whole_dim)
        torch.testing.assert_close(opened.score(tiny.QUERIES, tiny.DOCUMENTS), expected, rtol=1e-4, atol=1e-5)
        assert opened.matryoshka_dims == ([2] if opened is read else [])
        vectors = opened.embed_documents(tiny.DOCUMENTS)
        assert (vectors.vectors_TH if isinstance(vectors, TokenVectors) else vectors).shape[1] == 4


def test_a_model_that_is_cut_is_saved_with_the_same_scores(make: Make, tmp_path: Path) -> None:
    """A projection is cut in the file, so that a home library reads the same vectors; other files hold the number."""
    model = make(truncate_dim=4, matryoshka_dims=[2])
    save(model, tmp_path / "model")
    opened = load(tmp_path / "model")
    assert isinstance(opened, Nested) and opened.embedding_dim == 4
    assert opened.whole_dim == (4 if isinstance(model, ColBERT) else model.whole_dim)
    torch.testing.assert_close(
        opened.score(tiny.QUERIES, tiny.DOCUMENTS), model.score(tiny.QUERIES, tiny.DOCUMENTS), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("option", ["maxsim", "plaid"])
def test_engines_of_token_vectors_search_the_leading_dimensions(
    option: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """MaxSim and PLAID with exhaustive settings rank by the scores of the cut model."""
    torch.manual_seed(1)
    save(ColBERT(backbones["encoder"], dim=8, query_length=12), tmp_path / "model")
    model = load(tmp_path / "model", truncate_dim=4)
    machine = component("machine", accelerator="cpu", threads=1, progress=False)
    exhaustive = {"search": {"probes": 10**4, "candidates": 10**4}, "centroids": 4} if option == "plaid" else {}
    engine = component("index", option, **exhaustive)
    documents = [*tiny.DOCUMENTS, *(f"{text} {tiny.QUERIES[0]}" for text in tiny.DOCUMENTS)]
    index = build_index(encode(model, documents, machine=machine), engine=engine, machine=machine)
    found = search(index, TextTopics(tiny.QUERIES), model=model, depth=len(documents), machine=machine)
    score_BN = model.score(tiny.QUERIES, documents)
    assert len(found) == score_BN.numel()
    for scored in found:
        expected = float(score_BN[int(scored.query_id), int(scored.doc_id)])
        assert scored.score == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("option", "family", "reason"),
    [
        ("splade_doc", "splade.SPLADE", "words, which have no order"),
        ("unicoil", "unicoil.UniCOIL", "words, which have no order"),
        ("coil", "coil.COIL", "stored in pieces of token_dim dimensions"),
        ("mono_t5", "token_logit.TokenLogit", "a cross-encoder has no vectors"),
    ],
)
def test_other_models_are_refused_by_name_with_the_reason(
    option: str, family: str, reason: str, compose: Callable[..., DictConfig]
) -> None:
    """In one line, before anything is loaded."""
    config = compose(f"model={option}")
    config.model.matryoshka_dims = [4]
    (fault,) = config_faults(config)
    assert fault.startswith(f"model.matryoshka_dims: irexp.model.{family} has no 'matryoshka_dims': ")
    assert fault.endswith(reason)


def test_a_model_without_such_vectors_is_not_cut(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """Neither is a model cut to more dimensions than it has."""
    save(Mono(backbones["encoder"]), tmp_path / "mono")
    with pytest.raises(UserError, match="truncate_dim=4: mono is a Mono, without vectors whose leading dimensions"):
        load(tmp_path / "mono", truncate_dim=4)
    save(ColBERT(backbones["encoder"], dim=8), tmp_path / "colbert")
    with pytest.raises(UserError, match=r"model\.truncate_dim=9: the vectors have 8 dimensions"):
        load(tmp_path / "colbert", truncate_dim=9)
