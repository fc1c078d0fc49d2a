"""Every engine for the tests, small vectors of each kind, and the naive engine for comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from irexp.index.binary import Binary, BinarySearch
from irexp.index.coil import CoilIndex
from irexp.index.exact import Exact
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.index import Index
from irexp.index.maxsim import MaxSim, MaxSimSearch
from irexp.index.milvus import Milvus, MilvusSearch
from irexp.index.milvus_sparse import MilvusSparse, MilvusSparseSearch
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.seismic import Seismic, SeismicSearch
from irexp.index.sharded import Sharded
from irexp.index.shards import EncodedDocuments, ShardWriter
from irexp.index.sparse import SparseIndex, SparseSearch
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.index.torch_dense import TorchDense, TorchDenseSearch
from irexp.index.vectors import Representation, TokenVectors, Vectors, count, take

COUNT = 300
IDS = [f"document {number % 7}\u00a0{number}" for number in range(COUNT)]


@dataclass(frozen=True)
class Case:
    """An engine with exhaustive settings, which make it exact, and with settings that make it approximate."""

    kind: Representation
    exhaustive: Callable[[], Index]
    approximate: Callable[[], Index]
    with_ids: bool = False


def faiss(factory: str, **search: int) -> Callable[[], Index]:
    """A faiss index, small enough for the vectors of the tests."""
    sizes = {name: size for name, size in (("lists", 8), ("codes", 2)) if f"{{{name}}}" in factory}
    return lambda: Faiss(factory, **sizes, search=FaissSearch(**search))


ALL_TOKENS = 10**4

ENGINES = {
    "faiss_flat": Case("dense", faiss("Flat"), faiss("Flat")),
    "faiss_ivf": Case("dense", faiss("IVF{lists},Flat", probes=8), faiss("IVF{lists},Flat", probes=1)),
    "faiss_ivf_pq": Case(
        "dense",
        faiss("IVF{lists},PQ{codes}x4,RFlat", probes=8, candidates=10**6),
        faiss("IVF{lists},PQ{codes}x4,RFlat", probes=1, candidates=20),
    ),
    "faiss_hnsw": Case("dense", faiss("HNSW32,Flat", ef=COUNT), faiss("HNSW32,Flat", ef=4)),
    "faiss_sq": Case(
        "dense", faiss("SQ8,RFlat", candidates=10**6), lambda: Faiss("SQ8,RFlat", search=FaissSearch(candidates=1))
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
    "milvus": Case("dense", Milvus, lambda: Milvus("HNSW", links=4, search=MilvusSearch(ef=4))),
    "milvus_sparse": Case("sparse", MilvusSparse, lambda: MilvusSparse(terms=3, search=MilvusSparseSearch(terms=2))),
    "milvus_tokens": Case(
        "tokens",
        lambda: TokenRetrieval(Milvus(), search=TokenSearch(ALL_TOKENS)),
        lambda: TokenRetrieval(Milvus("IVF_FLAT"), pool_factor=2, search=TokenSearch(20, rescored=50)),
    ),
    "sharded": Case("dense", lambda: Sharded(Faiss("Flat"), parts=3), lambda: Sharded(Binary(), parts=COUNT // 6)),
    "sharded_tokens": Case(
        "tokens",
        lambda: Sharded(Plaid(2, centroids=16, search=PlaidSearch(16, None, 4 * COUNT, COUNT)), parts=2),
        lambda: Sharded(MaxSim(pool_factor=2)),
    ),
    "muvera": Case(
        "tokens",
        lambda: Muvera(Faiss("Flat"), repetitions=2, signs=2, search=MuveraSearch(COUNT)),
        lambda: Muvera(Faiss("SQ8"), repetitions=2, signs=2, block_dim=2, search=MuveraSearch(0)),
    ),
}


#: Engines that score about 1/20 of two thousand documents, or score as coarsely as they can.
CLUSTERED = {
    "faiss_ivf": Case("dense", TorchDense, lambda: Faiss("IVF50,Flat", search=FaissSearch(probes=3))),
    "faiss_ivf_pq": Case("dense", TorchDense, lambda: Faiss("PQ8x4,RFlat", search=FaissSearch(candidates=100))),
    "faiss_hnsw": Case("dense", TorchDense, lambda: Faiss("HNSW16,Flat", search=FaissSearch(ef=64))),
    "faiss_sq": Case("dense", TorchDense, lambda: Faiss("SQ4,RFlat", search=FaissSearch(candidates=30))),
    "torch_dense": Case("dense", TorchDense, lambda: TorchDense("bfloat16", search=TorchDenseSearch(20))),
    "binary": Case("dense", TorchDense, lambda: Binary(search=BinarySearch(100))),
    "milvus": Case("dense", TorchDense, lambda: Milvus("HNSW", search=MilvusSearch(ef=64))),
    "sparse": Case("sparse", SparseIndex, lambda: SparseIndex("uint8")),
    "seismic": Case("sparse", SparseIndex, lambda: Seismic(postings=100)),
    "maxsim": Case("tokens", MaxSim, lambda: MaxSim("bfloat16", search=MaxSimSearch(20))),
    "plaid": Case("tokens", MaxSim, lambda: Plaid(2, centroids=128, search=PlaidSearch(2, None, 100, 25))),
    "xtr": Case(
        "tokens",
        MaxSim,
        lambda: TokenRetrieval(Faiss("IVF50,Flat", search=FaissSearch(probes=5)), search=TokenSearch(100, rescored=50)),
    ),
    "milvus_tokens": Case(
        "tokens", MaxSim, lambda: TokenRetrieval(Milvus("HNSW"), search=TokenSearch(100, rescored=50))
    ),
    "muvera": Case(
        "tokens", MaxSim, lambda: Muvera(Faiss("Flat"), repetitions=10, block_dim=8, search=MuveraSearch(100))
    ),
}


def named(names: Iterable[str]) -> pytest.MarkDecorator:
    """A test for each engine; Milvus Lite returns thousands of tokens one by one, which takes seconds."""
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.slow) if name == "milvus_tokens" else name for name in names]
    )


def clustered(kind: Representation, rows: int, *, seed: int) -> Vectors:
    """Vectors around a hundred random centres, with noise; four tokens per text."""
    centers = np.random.default_rng(99).standard_normal((100, 4, 32)).astype(np.float32)
    generator = np.random.default_rng(seed)
    of_row = generator.integers(0, 100, size=rows)
    noise = generator.standard_normal((rows, 4, 32)).astype(np.float32)
    tokens = centers[of_row] + 0.5 * noise
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    if kind == "dense":
        return tokens[:, 0].copy()
    if kind == "sparse":
        return scipy.sparse.csr_array(np.maximum(tokens.reshape(rows, 128) - 0.1, 0))
    return TokenVectors(tokens.reshape(-1, 32), np.arange(0, 4 * rows + 1, 4))


def vectors_of(case: Case, rows: int, seed: int, *, signs: str = "both") -> Vectors:
    """Random vectors of multiples of 1/2, so that ties are exact; some texts have no term or token."""
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
    lengths[1::50] = 0
    vectors = (generator.integers(low, high, size=(lengths.sum(), 8)) / 2).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = generator.integers(0, 4, size=lengths.sum()).astype(np.int32)
    if case.with_ids:
        ids[starts[:-1][lengths > 0][::2]] = -1  # the other half has none, as with cls_dim=0
    return TokenVectors(vectors, starts, ids if case.with_ids else None)


def encode(folder: Path, vectors: Vectors, *, shards: int = 3, dtype: str = "float32") -> EncodedDocuments:
    """Write vectors to disk, as an encoding."""
    folder.mkdir()
    writer = ShardWriter(folder, dtype=dtype)
    for rows in np.array_split(np.arange(count(vectors)), shards):
        if len(rows):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            writer.write([f"d{row}" for row in rows], take(vectors, part))
    writer.close()
    return EncodedDocuments(folder)


def built(index: Index, encoding: EncodedDocuments, folder: Path) -> Index:
    """Build an engine, and load it from disk."""
    folder.mkdir()
    index.build(encoding, folder)
    index.load(folder)
    assert len(index) == len(encoding)
    return index


def exact(case: Case, documents: Vectors) -> Index:
    """The naive engine over documents."""
    index = Exact(case.kind)
    index.add(documents)
    return index
