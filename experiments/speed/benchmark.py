"""Every engine beside the others in one run: build seconds, bytes a document, milliseconds a query, recall.

    python experiments/speed/benchmark.py dense 10000 100000
    python experiments/speed/benchmark.py sparse 100000 engines=sparse,scipy

Vectors are synthetic, with the structure that text embeddings have: few intrinsic dimensions and clusters (dense),
terms by Zipf's law, 120 a document and 25 a query (sparse), tokens around the vectors of a vocabulary (tokens). Times
are processor seconds of one thread a query, medians of repetitions; recall is that of the exact top 10 in the top 10.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from irexp.index.binary import Binary, BinarySearch
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.faiss_structure import import_faiss
from irexp.index.index import Index
from irexp.index.maxsim import MaxSim, MaxSimSearch
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.shards import Encoding, ShardWriter
from irexp.index.sparse import SparseIndex, SparseSearch
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.index.torch_dense import TorchDense, TorchDenseSearch
from irexp.index.vectors import TokenVectors, Vectors, count, take

Search = Callable[[Vectors, int], tuple[np.ndarray, np.ndarray]]

DIM, TOKEN_DIM, VOCABULARY = 384, 128, 30522

#: What faiss has before an engine lowers it.
BLAS_THRESHOLD = import_faiss().cvar.distance_compute_blas_threshold

ENGINES: dict[str, dict[str, Callable[[], Index]]] = {
    "dense": {
        "faiss_flat": lambda: Faiss("Flat"),
        "torch_dense": TorchDense,
        "torch_dense bfloat16": lambda: TorchDense("bfloat16", search=TorchDenseSearch(100)),
        "binary": lambda: Binary(search=BinarySearch(1000)),
        "faiss_sq": lambda: Faiss("SQ8,RFlat", search=FaissSearch(candidates=100)),
        "faiss_ivf 8": lambda: Faiss("IVF{lists},Flat", search=FaissSearch(probes=8)),
        "faiss_ivf 32": lambda: Faiss("IVF{lists},Flat", search=FaissSearch(probes=32)),
        "faiss_ivf_pq": lambda: Faiss("IVF{lists},PQ{codes},RFlat", search=FaissSearch(probes=32, candidates=1000)),
        "faiss_hnsw": lambda: Faiss("HNSW32,Flat", search=FaissSearch(ef=128)),
    },
    "sparse": {
        "sparse": SparseIndex,
        "sparse uint8": lambda: SparseIndex("uint8"),
        "sparse 10 terms": lambda: SparseIndex(search=SparseSearch(terms=10)),
    },
    "tokens": {
        "maxsim": MaxSim,
        "maxsim bfloat16": lambda: MaxSim("bfloat16", search=MaxSimSearch(100)),
        "maxsim pooled by 2": lambda: MaxSim("bfloat16", pool_factor=2),
        "plaid": lambda: Plaid(2, search=PlaidSearch(rescored=100)),
        "plaid 8 probes": lambda: Plaid(2, search=PlaidSearch(8, 0.45, 4096, 100)),
        "xtr": lambda: TokenRetrieval(
            Faiss("IVF{lists},Flat", search=FaissSearch(probes=32)), search=TokenSearch(1000)
        ),
        "muvera": lambda: Muvera(Faiss("Flat"), search=MuveraSearch(1000)),
    },
}


def dense(rows: int, seed: int) -> np.ndarray:
    """Unit vectors of 48 intrinsic dimensions around 2,000 centres."""
    fixed, generator = np.random.default_rng(0), np.random.default_rng(seed)
    basis, centres = fixed.standard_normal((48, DIM)), fixed.standard_normal((2000, 48))
    latent = centres[generator.integers(0, 2000, rows)] + 0.7 * generator.standard_normal((rows, 48))
    vectors = latent @ basis + 0.5 * generator.standard_normal((rows, DIM))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def sparse(rows: int, terms: int, seed: int) -> scipy.sparse.csr_array:
    """Terms by Zipf's law with exponential weights."""
    generator = np.random.default_rng(seed)
    weight_V = 1 / (np.arange(VOCABULARY) + 50.0)
    drawn = generator.choice(VOCABULARY, (rows, terms), p=weight_V / weight_V.sum())
    indptr = np.arange(0, rows * terms + 1, terms)
    values = generator.exponential(0.5, rows * terms).astype(np.float32) + 0.01
    matrix = scipy.sparse.csr_array((values, drawn.ravel(), indptr), shape=(rows, VOCABULARY))
    matrix.sum_duplicates()
    return matrix


def tokens(rows: int, length: int, seed: int) -> TokenVectors:
    """Around `length` tokens a text, near the vectors of a vocabulary and shifted by the text's topic."""
    fixed, generator = np.random.default_rng(0), np.random.default_rng(seed)
    words, topics = fixed.standard_normal((8000, TOKEN_DIM)), fixed.standard_normal((500, TOKEN_DIM))
    lengths = np.clip(generator.normal(length, length / 4, rows).astype(int), 4, 2 * length)
    owner = np.repeat(np.arange(rows), lengths)
    topic = generator.integers(0, 500, rows)
    favourite = generator.integers(0, 8000, (500, 200))
    word = favourite[topic[owner], generator.integers(0, 200, len(owner))]
    vectors = words[word] + 0.6 * topics[topic[owner]]
    vectors = (vectors + 0.5 * generator.standard_normal(vectors.shape, dtype=np.float32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TokenVectors(vectors, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def collection(kind: str, rows: int) -> tuple[Vectors, Vectors]:
    """Documents and queries; those of tokens share their documents' topics."""
    if kind == "dense":
        return dense(rows, 1), dense(64, 2)
    if kind == "sparse":
        return sparse(rows, 120, 1), sparse(64, 25, 2)
    documents = tokens(rows, 50, 1)
    return documents, take(tokens_near(documents, rows), slice(0, 64))


def tokens_near(documents: TokenVectors, rows: int) -> TokenVectors:
    """Queries: 32 noisy tokens of a document each."""
    generator = np.random.default_rng(3)
    parts = []
    for row in generator.choice(rows, 64, replace=False):
        own = documents.vectors_TH[documents.starts_N1[row] : documents.starts_N1[row + 1]]
        picked = own[generator.integers(0, len(own), 32)]
        noisy = picked + 0.08 * generator.standard_normal(picked.shape)
        parts.append((noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32))
    return TokenVectors(np.concatenate(parts), np.arange(0, 64 * 32 + 1, 32))


def others(kind: str, documents: Vectors) -> dict[str, Search]:
    """What plain code takes, to stand beside."""
    if kind == "dense":
        flat = import_faiss().IndexFlatIP(DIM)
        flat.add(documents)

        def faiss_as_it_comes(queries: Vectors, depth: int) -> Any:
            import_faiss().cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
            return flat.search(queries, depth)

        return {"faiss as it comes": faiss_as_it_comes}
    if kind == "sparse":
        assert isinstance(documents, scipy.sparse.csr_array)

        def scipy_product(queries: Vectors, depth: int) -> Any:
            scores = np.stack([documents @ queries[number].toarray().ravel() for number in range(count(queries))])
            rows = np.argpartition(-scores, depth, axis=1)[:, :depth]
            return np.take_along_axis(scores, rows, 1), rows

        return {"scipy": scipy_product}
    return {}


def milliseconds(search: Search, queries: Vectors, batch: int, repetitions: int) -> float:
    """Processor time of a query in batches of `batch`; the first round warms up."""
    rounds = []
    parts = [take(queries, slice(start, start + batch)) for start in range(0, count(queries), batch)]
    parts = parts[: max(1, 16 if batch == 1 else len(parts))]
    for _ in range(repetitions + 1):
        start = time.process_time()
        for part in parts:
            search(part, 10)
        rounds.append((time.process_time() - start) / sum(count(part) for part in parts) * 1000)
    return statistics.median(rounds[1:])


def main(kind: str, sizes: list[int], wanted: list[str] | None) -> None:
    """Print one table a size."""
    torch.set_num_threads(1)
    import_faiss().omp_set_num_threads(1)
    for rows in sizes:
        documents, queries = collection(kind, rows)
        print(f"\n{kind}, {rows:,} documents\n")
        print("| engine | build s | bytes a document | ms a query, one by one | ms, 64 at once | recall@10 |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "encoding").mkdir()
            writer = ShardWriter(folder / "encoding", dtype="float32")
            for start in range(0, rows, 65536):
                part = take(documents, slice(start, start + 65536))
                writer.write([str(row) for row in range(start, start + count(part))], part)
            writer.close()
            encoding = Encoding(folder / "encoding")
            exact: np.ndarray | None = None
            for engine, make in ENGINES[kind].items():
                if wanted and exact is not None and engine not in wanted:
                    continue
                (folder / "index").mkdir()
                start_time = time.process_time()
                index = make()
                index.build(encoding, folder / "index")
                seconds = time.process_time() - start_time
                index.load(folder / "index")
                size = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file()) / rows
                exact = row_of(index.search, queries) if exact is None else exact
                show(engine, index.search, queries, exact, seconds, size)
                for path in (folder / "index").rglob("*"):
                    path.unlink()
                (folder / "index").rmdir()
            for engine, search in others(kind, documents).items():
                assert exact is not None
                show(engine, search, queries, exact, 0, 0)


def row_of(search: Search, queries: Vectors) -> np.ndarray:
    """The rows of the top 10."""
    return search(queries, 10)[1]


def show(engine: str, search: Search, queries: Vectors, exact: np.ndarray, seconds: float, size: float) -> None:
    """One line of the table."""
    found = row_of(search, queries)
    recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(found, exact, strict=True)])
    one, many = milliseconds(search, queries, 1, 3), milliseconds(search, queries, 64, 3)
    print(f"| {engine} | {seconds:.1f} | {size:,.0f} | {one:.3f} | {many:.3f} | {recall:.3f} |", flush=True)


if __name__ == "__main__":
    named = [
        argument.removeprefix("engines=").split(",") for argument in sys.argv[2:] if argument.startswith("engines=")
    ]
    main(sys.argv[1], [int(a) for a in sys.argv[2:] if not a.startswith("engines=")], named[0] if named else None)
