"""Every option of an engine has its documented effect on the index or the results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from irexp.index.compare import compare
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.index import Index
from irexp.index.maxsim import MaxSim
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.prune import prune
from irexp.index.ranking import rank
from irexp.index.seismic import Seismic, SeismicSearch
from irexp.index.sparse import SparseIndex, SparseSearch
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.index.token_store import pool
from irexp.index.vectors import TokenVectors
from irexp.types import UserError
from tests.engines import CLUSTERED, COUNT, ENGINES, IDS, built, clustered, encode, exact, named


@named(CLUSTERED)
def test_few_candidates_are_enough_for_clustered_vectors(tmp_path: Path, name: str) -> None:
    """Recall@10 is above 0.9 with 1/20 of the documents scored: an engine selects the right candidates."""
    case = CLUSTERED[name]
    documents, queries = clustered(case.kind, 2000, seed=0), clustered(case.kind, 30, seed=1)
    index = built(case.approximate(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    _, found_BK = index.search(queries, 10)
    _, best_BK = exact(case, documents).search(queries, 10)
    found = [len(set(one) & set(other)) for one, other in zip(found_BK.tolist(), best_BK.tolist(), strict=True)]
    assert np.mean(found) > 9


@pytest.mark.parametrize(
    ("factory", "little", "much"),
    [
        ("IVF50,Flat", FaissSearch(probes=1), FaissSearch(probes=50)),
        ("HNSW4,Flat", FaissSearch(ef=10), FaissSearch(ef=400)),
        ("PQ2x4,RFlat", FaissSearch(candidates=10), FaissSearch(candidates=1000)),
    ],
)
def test_faiss_finds_better_documents_with_larger_search_settings(
    tmp_path: Path, factory: str, little: FaissSearch, much: FaissSearch
) -> None:
    """Larger probes, ef and candidates, each alone, give better scores, and finally almost the best."""
    generator = np.random.default_rng(0)
    documents, queries = (generator.standard_normal((rows, 16)).astype(np.float32) for rows in (1000, 20))
    encoding = encode(tmp_path / "encoding", documents)
    best_BK, _ = exact(ENGINES["faiss_flat"], documents).search(queries, 10)
    found = [
        built(Faiss(factory, search=search), encoding, tmp_path / name).search(queries, 10)[0].mean()
        for name, search in (("little", little), ("much", much))
    ]
    assert found[0] < 0.98 * best_BK.mean() and found[1] > 0.99 * best_BK.mean()


def sparse_vectors(rows: int, seed: int) -> scipy.sparse.csr_array:
    """Random weights without ties, half of them zero."""
    values = np.random.default_rng(seed).random((rows, 12)).astype(np.float32)
    return scipy.sparse.csr_array(np.where(values > 0.5, values, np.float32(0)))


@pytest.mark.parametrize(
    ("engine", "kept", "looked_up"),
    [
        (SparseIndex(terms=3), (3, 0.0), (None, 0.0)),
        (SparseIndex(threshold=0.7), (None, 0.7), (None, 0.0)),
        (SparseIndex(search=SparseSearch(terms=2)), (None, 0.0), (2, 0.0)),
        (SparseIndex(search=SparseSearch(threshold=0.7)), (None, 0.0), (None, 0.7)),
    ],
)
def test_terms_and_threshold_equal_a_search_over_pruned_vectors(
    tmp_path: Path, engine: Index, kept: tuple[int | None, float], looked_up: tuple[int | None, float]
) -> None:
    """Results equal those of vectors pruned beforehand, and differ from those without pruning."""
    documents, queries = sparse_vectors(COUNT, 0), sparse_vectors(20, 1)
    index = built(engine, encode(tmp_path / "encoding", documents), tmp_path / "index")
    found_BK, _ = index.search(queries, 10)
    naive = exact(ENGINES["sparse"], prune(documents, *kept))
    rounding = 12 * float(np.finfo(np.float32).eps)  # two sums of twelve products, none of them negative
    np.testing.assert_allclose(found_BK, naive.search(prune(queries, *looked_up), 10)[0], rtol=rounding)
    assert not np.allclose(found_BK, exact(ENGINES["sparse"], documents).search(queries, 10)[0])


@pytest.mark.parametrize(("terms", "threshold"), [(3, 0.0), (None, 0.7)])
def test_seismic_prunes_documents(tmp_path: Path, terms: int | None, threshold: float) -> None:
    """Terms and threshold give the scores of the naive engine over pruned documents, up to 16-bit weights."""
    documents, queries = sparse_vectors(COUNT, 0), sparse_vectors(20, 1)
    search = SeismicSearch(terms=100, heap_factor=0.0)
    engine = Seismic(postings=COUNT, summary_energy=1.0, terms=terms, threshold=threshold, search=search)
    index = built(engine, encode(tmp_path / "encoding", documents), tmp_path / "index")
    naive = exact(ENGINES["sparse"], prune(documents, terms, threshold))
    np.testing.assert_allclose(index.search(queries, 10)[0], naive.search(queries, 10)[0], atol=5e-3)


def test_seismic_looks_up_the_heaviest_terms_of_a_query(tmp_path: Path) -> None:
    """Documents that share only light terms with the query are not found."""
    documents = scipy.sparse.csr_array(np.eye(12, dtype=np.float32))
    query = scipy.sparse.csr_array(np.array([[0, 3, 0, 1, 2] + 7 * [0]], np.float32))
    engine = Seismic(postings=12, summary_energy=1.0, search=SeismicSearch(terms=2, heap_factor=0.0))
    index = built(engine, encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert [doc_id for doc_id, _ in rank(index, query, 5, doc_ids=IDS)[0]] == [IDS[1], IDS[4]]


def test_seismic_refuses_negative_weights(tmp_path: Path) -> None:
    """Of documents, and of queries, as learned static weights may be: it would leave out what they subtract."""
    documents = scipy.sparse.csr_array(np.eye(12, dtype=np.float32))
    with pytest.raises(UserError, match="index=seismic does not accept negative weights"):
        built(Seismic(postings=12), encode(tmp_path / "negative", -documents), tmp_path / "refused")
    index = built(Seismic(postings=12), encode(tmp_path / "encoding", documents), tmp_path / "index")
    with pytest.raises(UserError, match="index=seismic does not accept negative weights"):
        index.search(-documents, 5)


def test_seismic_refuses_weights_that_16_bits_cannot_hold(tmp_path: Path) -> None:
    """They would become infinity, and their documents the best of every query; those of queries have more bits."""
    documents, search = scipy.sparse.csr_array(np.eye(12, dtype=np.float32)), SeismicSearch(terms=100, heap_factor=0.0)
    with pytest.raises(UserError, match="up to 65,504, and this model makes larger ones, such as 65,505"):
        built(Seismic(postings=12), encode(tmp_path / "refused", documents * 65_505), tmp_path / "none")
    index = built(
        Seismic(postings=12, search=search), encode(tmp_path / "encoding", documents * 65_504), tmp_path / "i"
    )
    score_BK, row_BK = index.search(documents * np.float32(100_000), 1)
    assert row_BK[:, 0].tolist() == list(range(12))
    assert score_BK[:, 0].tolist() == [65_504e5] * 12


def test_uint8_weights_are_within_half_a_step(tmp_path: Path) -> None:
    """A score's error is at most half of 1/255 of each term's largest weight, summed over the query's terms."""
    documents, queries = sparse_vectors(COUNT, 0), sparse_vectors(20, 1)
    index = built(SparseIndex("uint8"), encode(tmp_path / "encoding", documents), tmp_path / "index")
    score_BK, row_BK = index.search(queries, COUNT)
    score_BN = compare(queries, documents)
    step_V = documents.toarray().max(axis=0) / 255
    allowed_B = queries @ step_V / 2
    for scores, rows, exact_N, allowed in zip(score_BK, row_BK, score_BN, allowed_B, strict=True):
        error = np.abs(scores[rows >= 0] - exact_N[rows[rows >= 0]])
        assert 0 < error.max() <= allowed + 1e-5


def unit_tokens(rows: int, seed: int) -> TokenVectors:
    """Six random vectors of length one per text."""
    vectors = np.random.default_rng(seed).standard_normal((6 * rows, 8)).astype(np.float32)
    return TokenVectors(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(0, 6 * rows + 1, 6))


TOKEN_ENGINES: dict[str, Callable[[int, int], Index]] = {
    "plaid": lambda factor, rescored: Plaid(
        2, centroids=16, pool_factor=factor, search=PlaidSearch(16, None, 4 * COUNT, rescored)
    ),
    "xtr": lambda factor, rescored: TokenRetrieval(
        Faiss("Flat"), pool_factor=factor, search=TokenSearch(700 if rescored else 60, rescored=rescored)
    ),
    "muvera": lambda factor, rescored: Muvera(
        Faiss("Flat"), repetitions=2, signs=2, pool_factor=factor, search=MuveraSearch(rescored)
    ),
}


@pytest.mark.parametrize("name", TOKEN_ENGINES)
def test_scores_are_exact_only_with_rescored(tmp_path: Path, name: str) -> None:
    """With `rescored` for all documents scores are exact; with 0 they are approximate."""
    documents, queries = unit_tokens(COUNT, 0), unit_tokens(9, 1)
    encoding, naive_BN = encode(tmp_path / "encoding", documents), compare(queries, documents)
    for rescored in (COUNT, 0):
        index = built(TOKEN_ENGINES[name](1, rescored), encoding, tmp_path / str(rescored))
        score_BK, row_BK = index.search(queries, 10)
        is_exact_BK = np.isclose(score_BK, np.take_along_axis(naive_BN, row_BK, axis=1), rtol=1e-5)
        assert is_exact_BK.all() if rescored else is_exact_BK.mean() < 0.5


@pytest.mark.parametrize("name", [*TOKEN_ENGINES, "maxsim"])
def test_pool_factor_equals_a_search_over_pooled_documents(tmp_path: Path, name: str) -> None:
    """An engine with pool_factor gives exact scores of the pooled vectors, not of the original ones."""
    documents, queries = unit_tokens(COUNT, 0), unit_tokens(9, 1)
    engine = MaxSim(pool_factor=2) if name == "maxsim" else TOKEN_ENGINES[name](2, COUNT)
    index = built(engine, encode(tmp_path / "encoding", documents), tmp_path / "index")
    naive = exact(ENGINES["maxsim"], pool(documents, 2))
    np.testing.assert_allclose(index.search(queries, 10)[0], naive.search(queries, 10)[0], rtol=1e-5)


def test_plaid_normalises_decompressed_vectors(tmp_path: Path) -> None:
    """If vectors have length one, centroid plus residual is normalised again; without it scores would differ."""
    documents, queries = unit_tokens(60, 0), unit_tokens(9, 1)
    engine = Plaid(8, centroids=4, search=PlaidSearch(4, None, 240, 0))
    built(engine, encode(tmp_path / "encoding", documents), tmp_path / "index")
    values, centroid_CH = engine._learned["values"], engine._learned["centroids"]
    vector_TH = centroid_CH[engine._codes_T] + values[engine._residuals_TR]
    norm_T1 = np.linalg.norm(vector_TH, axis=1, keepdims=True)
    decompressed = TokenVectors(vector_TH / norm_T1, documents.starts_N1)
    score_BK, row_BK = engine.search(queries, 10)
    naive_BN = compare(queries, decompressed)
    np.testing.assert_allclose(score_BK, np.take_along_axis(naive_BN, row_BK, axis=1), rtol=1e-5)
    not_normalised = compare(queries, TokenVectors(vector_TH, documents.starts_N1))
    assert not np.allclose(score_BK, np.take_along_axis(not_normalised, row_BK, axis=1), rtol=1e-5)


def test_plaids_threshold_leaves_out_far_centroids(tmp_path: Path) -> None:
    """A threshold below all scores changes nothing; one above all scores makes the first selection arbitrary."""
    documents, queries = clustered("tokens", 400, seed=0), clustered("tokens", 9, seed=1)
    encoding = encode(tmp_path / "encoding", documents)

    def found(threshold: float | None) -> NDArray[np.int64]:
        engine = Plaid(2, centroids=32, search=PlaidSearch(32, threshold, 40, 0))
        (tmp_path / "index").mkdir(exist_ok=True)
        engine.build(encoding, tmp_path / "index")
        engine.load(tmp_path / "index")
        return engine.search(queries, 5)[1]

    np.testing.assert_array_equal(found(-9.0), found(None))
    assert (found(9.0) != found(None)).mean() > 0.5


def test_muveras_projected_vectors_approximate_maxsim() -> None:
    """Queries and documents must be projected by the same signs, or scores would not correlate with MaxSim."""
    texts = unit_tokens(40, 0)
    engine = Muvera(Faiss("Flat"), repetitions=200, signs=3, block_dim=4)
    approximate = engine._long(texts, is_query=True) @ engine._long(texts, is_query=False).T
    assert np.corrcoef(approximate.ravel(), compare(texts, texts).ravel())[0, 1] > 0.9
