"""Formulas of single engines, each against naive loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from irexp.index.compare import compare
from irexp.index.faiss_index import Faiss
from irexp.index.index import Rows, Scores
from irexp.index.muvera import Muvera
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.prune import prune
from irexp.index.ranking import rank
from irexp.index.rescore import rescore
from irexp.index.sparse import SparseIndex
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.index.token_store import pool
from irexp.index.vectors import TokenVectors, Vectors, take
from irexp.types import UserError
from tests.engines import ENGINES, IDS, built, encode, exact, vectors_of


def test_sparse_weights_may_be_negative(tmp_path: Path) -> None:
    """A document that shares a term is a result even with a negative score; others are not."""
    values = np.random.default_rng(5).integers(-3, 4, size=(2, 60, 12)).astype(np.float32) / 2
    documents, queries = scipy.sparse.csr_array(values[0]), scipy.sparse.csr_array(values[1][:9])
    index = built(SparseIndex(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    found = rank(index, queries, 60, doc_ids=IDS)
    assert found == rank(exact(ENGINES["sparse"], documents), queries, 60, doc_ids=IDS)
    assert any(score < 0 for ranking in found for _, score in ranking)
    with pytest.raises(UserError, match=r"index\.weights=uint8 cannot hold negative weights"):
        built(SparseIndex("uint8"), encode(tmp_path / "e2", documents), tmp_path / "i2")


def test_pruning_keeps_the_heaviest_terms() -> None:
    """Terms and threshold keep the largest weights of each vector, and the first ones of ties."""
    vectors = scipy.sparse.csr_array([[1.0, 3.0, 1.0, 0.5], [0.0, 0.0, 0.2, 0.0]])
    assert prune(vectors, 2, 0.0).toarray().tolist() == [[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.2, 0.0]]
    assert prune(vectors, None, 0.5).toarray().tolist() == [[1.0, 3.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]]
    assert prune(vectors, None, 0.0) is vectors


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_plaids_residuals_are_more_precise_with_more_bits(tmp_path: Path, bits: int) -> None:
    """The error of decompressed vectors' scores is below a bound for each number of bits."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((900, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = TokenVectors(vectors, np.arange(0, 901, 3))
    index = built(
        Plaid(bits, centroids=32, search=PlaidSearch(32, None, 10**4, 0)),
        encode(tmp_path / "encoding", documents),
        tmp_path / "index",
    )
    queries = take(documents, slice(0, 20))
    found, rows = index.search(queries, 300)
    naive = compare(queries, documents)
    error = np.abs(found - np.take_along_axis(naive, rows, axis=1)).mean()
    assert error < {1: 0.35, 2: 0.2, 4: 0.06, 8: 0.012}[bits]
    assert (rows[:, 0] == np.arange(20)).mean() > 0.9


def test_muveras_vectors_equal_their_formula() -> None:
    """Sums for queries, means for documents, the nearest token for empty buckets; close to MaxSim if repeated often."""
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = TokenVectors(vectors, np.array([0, 20, 25, 60]))
    engine = Muvera(Faiss("Flat"), repetitions=2, signs=2, block_dim=8, seed=3)
    long_query, long_document = (engine._long(texts, is_query=is_query) for is_query in (True, False))
    redrawn = np.random.default_rng(3)
    for repetition in range(2):
        signs = (vectors @ redrawn.standard_normal((8, 2)).astype(np.float32) > 0).astype(int)
        bucket = signs[:, 0] + 2 * signs[:, 1]
        for text in range(3):
            own = np.arange(texts.starts_N1[text], texts.starts_N1[text + 1])
            for block in range(4):
                at = slice((repetition * 4 + block) * 8, (repetition * 4 + block + 1) * 8)
                members = own[bucket[own] == block]
                np.testing.assert_allclose(long_query[text, at], vectors[members].sum(axis=0) / 2, atol=1e-5)
                if len(members):
                    np.testing.assert_allclose(long_document[text, at], vectors[members].mean(axis=0), atol=1e-5)
                else:
                    differing = [bin(int(bucket[token]) ^ block).count("1") for token in own]
                    nearest = own[int(np.argmin(differing))]
                    np.testing.assert_allclose(long_document[text, at], vectors[nearest], atol=1e-5)
    many = Muvera(Faiss("Flat"), repetitions=200, signs=4, block_dim=8)
    approximate = many._long(texts, is_query=True) @ many._long(texts, is_query=False).T
    assert np.corrcoef(approximate.ravel(), compare(texts, texts).ravel())[0, 1] > 0.95


def test_xtr_imputes_the_scores_of_tokens_that_were_not_retrieved() -> None:
    """A missing score becomes the smallest retrieved score of the query token, or zero."""
    engine = TokenRetrieval(Faiss("Flat"))
    engine._owner_T = np.array([0, 0, 1, 2], dtype=np.int32)
    found = np.array([[0.9, 0.6], [0.8, 0.5]], np.float32)
    scores, rows = engine._documents(found, np.array([[1, 2], [2, 3]]))
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores, [0.9 + 0.5, 0.6 + 0.8, 0.6 + 0.5], atol=1e-6)
    engine._search = TokenSearch(imputation="zero")
    np.testing.assert_allclose(engine._documents(found, np.array([[1, 2], [2, -1]]))[0], [0.9, 0.6 + 0.8], atol=1e-6)


def test_token_pooling_keeps_the_first_vector_and_averages_clusters() -> None:
    """Two groups of similar vectors after the first vector become their two means; an empty text stays empty."""
    bundle = np.array([[1.0, 0.0], [0.999, 0.04], [0.0, 1.0], [0.04, 0.999]], np.float32)
    vectors = np.concatenate([[[0.6, 0.8]], bundle]).astype(np.float32)
    pooled = pool(TokenVectors(vectors, np.array([0, 5, 5])), 2)
    assert pooled.starts_N1.tolist() == [0, 3, 3]
    np.testing.assert_allclose(pooled.vectors_TH[0], [0.6, 0.8], atol=1e-6)
    means = sorted(pooled.vectors_TH[1:].tolist())
    np.testing.assert_allclose(means, [[0.02, 0.9998], [0.9998, 0.02]], atol=1e-3)


def test_plaid_rescores_at_most_the_whole_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `rescored` larger than the collection would take memory for candidates that do not exist."""
    documents = vectors_of(ENGINES["plaid"], 60, 0)
    widths = []

    def record(queries: Vectors, row_BC: Rows, documents: Vectors, depth: int) -> tuple[Scores, Rows]:
        widths.append(row_BC.shape[1])
        return rescore(queries, row_BC, documents, depth)

    monkeypatch.setattr("irexp.index.plaid.rescore", record)
    index = Plaid(2, centroids=4, search=PlaidSearch(rescored=10**4))
    built(index, encode(tmp_path / "encoding", documents), tmp_path / "index").search(take(documents, slice(0, 3)), 5)
    assert widths == [60]
