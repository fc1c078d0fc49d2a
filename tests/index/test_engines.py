"""Every engine against the naive one, by one list of properties."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from irexp.index.binary import Binary, BinarySearch
from irexp.index.coil import CoilIndex
from irexp.index.compare import compare
from irexp.index.exact import Exact
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.index import Index, build
from irexp.index.maxsim import MaxSim, MaxSimSearch
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.prune import prune
from irexp.index.ranking import rank
from irexp.index.seismic import Seismic, SeismicSearch
from irexp.index.shards import Encoding, ShardWriter
from irexp.index.sparse import SparseIndex, SparseSearch
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.index.token_store import pool
from irexp.index.torch_dense import TorchDense, TorchDenseSearch
from irexp.index.vectors import Representation, TokenVectors, Vectors, count, take
from irexp.types import UserError

COUNT = 300
IDS = [f"document {number % 7}\u00a0{number}" for number in range(COUNT)]


@dataclass(frozen=True)
class Case:
    """An engine as it is asked to look at everything, and as it is asked to look at little."""

    kind: Representation
    whole: Callable[[], Index]
    little: Callable[[], Index]
    with_ids: bool = False


def _faiss(factory: str, **search: int) -> Callable[[], Index]:
    return lambda: Faiss(factory, lists=8, codes=2, search=FaissSearch(**search))


ALL_TOKENS = 10**4

ENGINES = {
    "faiss_flat": Case("dense", _faiss("Flat"), _faiss("Flat")),
    "faiss_ivf": Case("dense", _faiss("IVF{lists},Flat", probes=8), _faiss("IVF{lists},Flat", probes=1)),
    "faiss_ivf_pq": Case(
        "dense",
        _faiss("IVF{lists},PQ{codes}x4,RFlat", probes=8, candidates=10**6),
        _faiss("IVF{lists},PQ{codes}x4,RFlat", probes=1, candidates=20),
    ),
    "faiss_hnsw": Case("dense", _faiss("HNSW32,Flat", ef=COUNT), _faiss("HNSW32,Flat", ef=4)),
    "faiss_sq": Case(
        "dense", _faiss("SQ8,RFlat", candidates=10**6), lambda: Faiss("SQ8,RFlat", search=FaissSearch(candidates=1))
    ),
    "torch_dense": Case("dense", TorchDense, TorchDense),
    "torch_dense_bfloat16": Case(
        "dense",
        lambda: TorchDense("bfloat16", search=TorchDenseSearch(COUNT)),
        lambda: TorchDense("bfloat16", search=TorchDenseSearch(1)),
    ),
    "binary": Case("dense", lambda: Binary(search=BinarySearch(COUNT)), lambda: Binary(search=BinarySearch(10))),
    "sparse": Case("sparse", SparseIndex, lambda: SparseIndex("uint8", terms=3, search=SparseSearch(terms=2))),
    "seismic": Case(
        "sparse",
        lambda: Seismic(postings=COUNT, summary_energy=1.0, search=SeismicSearch(terms=100, heap_factor=0.0)),
        lambda: Seismic(postings=20, search=SeismicSearch(terms=2)),
    ),
    "maxsim": Case("tokens", MaxSim, lambda: MaxSim(pool_factor=2)),
    "maxsim_bfloat16": Case(
        "tokens",
        lambda: MaxSim("bfloat16", search=MaxSimSearch(COUNT)),
        lambda: MaxSim("bfloat16", search=MaxSimSearch(1)),
    ),
    "coil": Case("tokens", CoilIndex, CoilIndex, with_ids=True),
    "plaid": Case(
        "tokens",
        lambda: Plaid(2, centroids=16, search=PlaidSearch(16, None, 4 * COUNT, COUNT)),
        lambda: Plaid(1, centroids=16, pool_factor=2, search=PlaidSearch(1, 0.4, 40, 0)),
    ),
    "xtr": Case(
        "tokens",
        lambda: TokenRetrieval(Faiss("Flat"), search=TokenSearch(ALL_TOKENS)),
        lambda: TokenRetrieval(
            Faiss("IVF{lists},Flat", lists=8, search=FaissSearch(probes=2)), pool_factor=2, search=TokenSearch(20)
        ),
    ),
    "muvera": Case(
        "tokens",
        lambda: Muvera(Faiss("Flat"), repetitions=2, signs=2, search=MuveraSearch(COUNT)),
        lambda: Muvera(Faiss("SQ8"), repetitions=2, signs=2, block_dim=2, search=MuveraSearch(0)),
    ),
}

engines = pytest.mark.parametrize("name", ENGINES)


def vectors_of(case: Case, rows: int, seed: int, *, signs: str = "both") -> Vectors:
    """Random vectors of whole halves, so that ties are exact; some without a value or a token."""
    generator = np.random.default_rng(seed)
    low = {"both": -3, "positive": 1, "negative": -4}[signs]
    high = {"both": 4, "positive": 4, "negative": 0}[signs]
    if case.kind == "dense":
        return (generator.integers(low, high, size=(rows, 8)) / 2).astype(np.float32)
    if case.kind == "sparse":
        values = generator.integers(0, 6, size=(rows, 12)).astype(np.float32) / 2
        values[values < 2] = 0
        values[1::50] = 0
        return scipy.sparse.csr_array(values)
    lengths = generator.integers(1, 6, size=rows)
    if not case.with_ids:
        lengths[1::50] = 0
    vectors = (generator.integers(low, high, size=(lengths.sum(), 8)) / 2).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = generator.integers(0, 4, size=lengths.sum()).astype(np.int32)
    if case.with_ids:
        ids[starts[:-1]] = -1
    return TokenVectors(vectors, starts, ids if case.with_ids else None)


def encode(folder: Path, vectors: Vectors, *, shards: int = 3) -> Encoding:
    """The vectors on disk."""
    folder.mkdir()
    writer = ShardWriter(folder, dtype="float32")
    for rows in np.array_split(np.arange(count(vectors)), shards):
        if len(rows):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            writer.write([f"d{row}" for row in rows], take(vectors, part))
    writer.close()
    return Encoding(folder)


def built(index: Index, encoding: Encoding, folder: Path) -> Index:
    """An engine over an encoding, from disk."""
    folder.mkdir()
    build(index, encoding, folder)
    index.load(folder)
    assert len(index) == len(encoding)
    return index


def exact(case: Case, documents: Vectors) -> Index:
    """The naive engine."""
    index = Exact(case.kind)
    index.add(documents)
    return index


@engines
@pytest.mark.parametrize("depth", [1, 10, COUNT, 1000])
def test_an_engine_that_looks_at_everything_is_exact(tmp_path: Path, name: str, depth: int) -> None:
    """Rankings equal the naive ones, ties by id at any depth, also one beyond the collection."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.whole(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    found = rank(index, queries, depth, doc_ids=IDS)
    assert found == rank(exact(case, documents), queries, depth, doc_ids=IDS)
    assert any(found)


@pytest.mark.parametrize("name", ["torch_dense", "torch_dense_bfloat16", "sparse", "maxsim", "maxsim_bfloat16"])
def test_blocks_put_together_are_the_whole(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a single block in so small a collection, cut into many."""
    for module, constant, value in [
        ("torch_dense", "_BLOCK", 70),
        ("torch_dense", "_NEIGHBOURS", 4),
        ("sparse", "_BLOCK", 64),
        ("maxsim", "_BLOCK_TOKENS", 16),
        ("maxsim", "_QUERY_TOKENS", 8),
        ("maxsim", "_HELD", 32),
        ("maxsim", "_COPIED", 50),
        ("shards", "_BATCH_VALUES", 256),
    ]:
        monkeypatch.setattr(f"irexp.index.{module}.{constant}", value)
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.whole(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    for depth in (3, 40):
        assert rank(index, queries, depth, doc_ids=IDS) == rank(exact(case, documents), queries, depth, doc_ids=IDS)


def test_sparse_weights_may_be_negative(tmp_path: Path) -> None:
    """A document that shares a term is a result, whatever its score; others are none."""
    values = np.random.default_rng(5).integers(-3, 4, size=(2, 60, 12)).astype(np.float32) / 2
    documents, queries = scipy.sparse.csr_array(values[0]), scipy.sparse.csr_array(values[1][:9])
    index = built(SparseIndex(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    found = rank(index, queries, 60, doc_ids=IDS)
    assert found == rank(exact(ENGINES["sparse"], documents), queries, 60, doc_ids=IDS)
    assert any(score < 0 for ranking in found for _, score in ranking)
    with pytest.raises(UserError, match=r"index\.weights=uint8 holds no negative weight"):
        built(SparseIndex("uint8"), encode(tmp_path / "e2", documents), tmp_path / "i2")


def test_pruned_and_rounded_postings_are_near() -> None:
    """Of each vector the heaviest terms, the first of equal ones."""
    vectors = scipy.sparse.csr_array([[1.0, 3.0, 1.0, 0.5], [0.0, 0.0, 0.2, 0.0]])
    assert prune(vectors, 2, 0.0).toarray().tolist() == [[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.2, 0.0]]
    assert prune(vectors, None, 0.5).toarray().tolist() == [[1.0, 3.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]]
    assert prune(vectors, None, 0.0) is vectors


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_residuals_come_closer_with_more_bits(tmp_path: Path, bits: int) -> None:
    """What PLAID decompresses, beside the vectors themselves."""
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


def test_a_long_vector_is_the_formula_of_muvera() -> None:
    """Sums for queries, means for documents, the nearest token for an empty bucket; near MaxSim when there are many."""
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


def test_what_was_not_found_is_imputed() -> None:
    """The smallest score that a query token found stands for the others, or zero."""
    engine = TokenRetrieval(Faiss("Flat"))
    engine._owner_T = np.array([0, 0, 1, 2], dtype=np.int32)
    found = np.array([[0.9, 0.6], [0.8, 0.5]], np.float32)
    scores, rows = engine._documents(found, np.array([[1, 2], [2, 3]]))
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores, [0.9 + 0.5, 0.6 + 0.8, 0.6 + 0.5], atol=1e-6)
    engine._search = TokenSearch(imputation="zero")
    np.testing.assert_allclose(engine._documents(found, np.array([[1, 2], [2, -1]]))[0], [0.9, 0.6 + 0.8], atol=1e-6)


def test_token_pooling_keeps_the_first_and_the_clusters() -> None:
    """Two tight bundles behind the first vector become two vectors; a factor of one, or below, is none."""
    bundle = np.array([[1.0, 0.0], [0.999, 0.04], [0.0, 1.0], [0.04, 0.999]], np.float32)
    vectors = np.concatenate([[[0.6, 0.8]], bundle]).astype(np.float32)
    pooled = pool(TokenVectors(vectors, np.array([0, 5, 5])), 2)
    assert pooled.starts_N1.tolist() == [0, 3, 3]
    np.testing.assert_allclose(pooled.vectors_TH[0], [0.6, 0.8], atol=1e-6)
    means = sorted(pooled.vectors_TH[1:].tolist())
    np.testing.assert_allclose(means, [[0.02, 0.9998], [0.9998, 0.02]], atol=1e-3)


@engines
def test_an_engine_that_looks_at_little_finds_real_documents(tmp_path: Path, name: str) -> None:
    """Rows within the collection, each once, best first; no result has no score and no document without vectors."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.little(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    score_BK, row_BK = index.search(queries, 30)
    assert score_BK.shape == row_BK.shape == (20, 30)
    assert np.isneginf(score_BK[row_BK < 0]).all() and np.isfinite(score_BK[row_BK >= 0]).all()
    assert row_BK.max() < COUNT and row_BK.min() >= -1
    for scores, rows in zip(score_BK, row_BK, strict=True):
        found = rows[rows >= 0]
        assert len(set(found.tolist())) == len(found) and (rows[len(found) :] == -1).all()
        assert (np.diff(scores[: len(found)]) <= 1e-5).all()
    if isinstance(documents, TokenVectors):
        empty = set(np.flatnonzero(np.diff(documents.starts_N1) == 0).tolist())
        assert not empty & set(row_BK.ravel().tolist())


@pytest.mark.parametrize("name", [name for name, case in ENGINES.items() if case.kind != "sparse"])
def test_scores_may_all_be_negative(tmp_path: Path, name: str) -> None:
    """A negative score is a score, larger than none."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0, signs="positive")
    queries = vectors_of(case, 8, 1, signs="negative")
    index = built(case.whole(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    found = rank(index, queries, 5, doc_ids=IDS)
    assert found == rank(exact(case, documents), queries, 5, doc_ids=IDS)
    if name != "coil":  # whose maxima over equal tokens are not below zero
        assert all(score < 0 for ranking in found for _, score in ranking)


@pytest.mark.parametrize("name", ["sparse", "seismic"])
def test_a_query_without_a_term_has_no_result(tmp_path: Path, name: str) -> None:
    """Neither has one whose terms no document has."""
    case = ENGINES[name]
    documents = scipy.sparse.csr_array(np.eye(12, dtype=np.float32)[:10])
    queries = scipy.sparse.csr_array(np.eye(12, dtype=np.float32)[[11, 3]] * [[1], [0]] + 0)
    index = built(case.whole(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert rank(index, scipy.sparse.csr_array(queries.astype(np.float32)), 5, doc_ids=IDS) == [[], []]


#: Seismic's package seeds nothing.
repeatable = pytest.mark.parametrize("name", [name for name in ENGINES if name != "seismic"])


@repeatable
def test_the_same_encoding_makes_the_same_bytes(tmp_path: Path, name: str) -> None:
    """However it is cut into shards; and the same search twice is the same."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    first = built(case.little(), encode(tmp_path / "e1", documents), tmp_path / "i1")
    second = built(case.little(), encode(tmp_path / "e2", documents, shards=1), tmp_path / "i2")
    assert digests(tmp_path / "i1") == digests(tmp_path / "i2")
    for one, other in zip(first.search(queries, 10), second.search(queries, 10), strict=True):
        np.testing.assert_array_equal(one, other)


@repeatable
def test_a_killed_build_goes_on(tmp_path: Path, name: str) -> None:
    """What a process left when it was killed between two batches becomes the index of a whole one."""
    case = ENGINES[name]
    encoding = encode(tmp_path / "encoding", vectors_of(case, COUNT, 0))
    built(case.little(), encoding, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    killed = case.little()
    assert killed.begin(encoding, tmp_path / "killed") == 0
    killed.add(next(encoding.batches()))
    del killed
    again = case.little()
    build(again, encoding, tmp_path / "killed")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@engines
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    """Queries of another checkpoint, and folders that the engine did not make."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0)
    index = built(case.whole(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="was not made by"):
        case.whole().load(tmp_path / "empty")
    with pytest.raises(UserError, match="the checkpoint is not the one that encoded the documents"):
        index.search(narrow(documents), 3)


def narrow(vectors: Vectors) -> Vectors:
    """Of half the dimensions."""
    if isinstance(vectors, TokenVectors):
        return TokenVectors(vectors.vectors_TH[:, :4], vectors.starts_N1, vectors.token_ids_T)
    return scipy.sparse.csr_array(vectors[:, :4]) if scipy.sparse.issparse(vectors) else vectors[:, :4]


def digests(folder: Path) -> dict[str, str]:
    """The content of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
