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
from irexp.index.exact import Exact
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.index import Index, build
from irexp.index.maxsim import MaxSim, MaxSimSearch
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.ranking import rank
from irexp.index.seismic import Seismic, SeismicSearch
from irexp.index.shards import Encoding, ShardWriter
from irexp.index.sparse import SparseIndex, SparseSearch
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
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
