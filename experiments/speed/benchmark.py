"""Compare all engines in one run: build seconds, bytes per document, milliseconds per query, recall.

    python experiments/speed/benchmark.py                                       all tables of README.md about engines
    python experiments/speed/benchmark.py dense 10000 100000                    those of a kind
    python experiments/speed/benchmark.py sparse 100000 engines=sparse,scipy    printed alone, and not recorded
    python experiments/speed/benchmark.py rerank 1000

Vectors are synthetic, with the structure that text embeddings have: few intrinsic dimensions and clusters (dense),
terms by Zipf's law, 120 per document and 25 per query (sparse), tokens around the vectors of a vocabulary (tokens). A
query is a distorted document, its only relevant one. Times are processor time of one thread per query, medians of
repetitions; recall is the share of the exact top 10 in the top 10; the limit of an exact engine is the time that its
arithmetic or its reading takes at this machine's rates, measured in the same run.
"""

from __future__ import annotations

import importlib.util
import shutil
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
from record import keep, line, machine, table
from synthetic import DIM, QUERIES, QUERY_TOKENS, VOCABULARY, collection
from torch.nn.utils.rnn import pad_sequence

from irexp.index.binary import Binary, BinarySearch
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.faiss_structure import import_faiss
from irexp.index.index import Index
from irexp.index.maxsim import MaxSim, MaxSimSearch
from irexp.index.milvus import Milvus
from irexp.index.milvus_sparse import MilvusSparse
from irexp.index.muvera import Muvera, MuveraSearch
from irexp.index.plaid import Plaid, PlaidSearch
from irexp.index.rescore import rescore
from irexp.index.seismic import Seismic
from irexp.index.shards import EncodedDocuments, ShardWriter
from irexp.index.sparse import SparseIndex, SparseSearch
from irexp.index.token_retrieval import TokenRetrieval, TokenSearch
from irexp.index.torch_dense import TorchDense, TorchDenseSearch
from irexp.index.vectors import TokenVectors, Vectors, count, take
from irexp.peer.limits import Limits, measure_limits, seconds

Search = Callable[[Vectors, int], tuple[np.ndarray, np.ndarray]]

ENGINES: dict[str, dict[str, Callable[[], Index]]] = {
    "dense": {
        "faiss_flat": lambda: Faiss("Flat"),
        "torch_dense": TorchDense,
        "torch_dense bfloat16": lambda: TorchDense("bfloat16", search=TorchDenseSearch(100)),
        "binary": lambda: Binary(search=BinarySearch(1000)),
        "faiss_sq": lambda: Faiss("SQ8,RFlat", search=FaissSearch(candidates=100)),
        "faiss_ivf": lambda: Faiss("IVF{lists},Flat", search=FaissSearch(probes=32)),
        "faiss_ivf: 8 probes": lambda: Faiss("IVF{lists},Flat", search=FaissSearch(probes=8)),
        "faiss_ivf_pq": lambda: Faiss("IVF{lists},PQ{codes},RFlat", search=FaissSearch(probes=32, candidates=1000)),
        "faiss_hnsw": lambda: Faiss("HNSW32,Flat", search=FaissSearch(ef=128)),
    },
    "milvus_dense": {
        "faiss_flat": lambda: Faiss("Flat"),
        "milvus FLAT": Milvus,
        "milvus HNSW": lambda: Milvus("HNSW"),
        "milvus IVF_FLAT": lambda: Milvus("IVF_FLAT"),
    },
    "sparse": {
        "sparse": SparseIndex,
        "sparse: 10 terms": lambda: SparseIndex(search=SparseSearch(terms=10)),
        "seismic": Seismic,
        "sparse uint8": lambda: SparseIndex("uint8"),
    },
    "milvus_sparse": {"sparse": SparseIndex, "milvus_sparse": MilvusSparse},
    "tokens": {
        "maxsim": MaxSim,
        "maxsim bfloat16": lambda: MaxSim("bfloat16", search=MaxSimSearch(100)),
        "maxsim bfloat16 pooled by 2": lambda: MaxSim("bfloat16", pool_factor=2),
        "plaid": lambda: Plaid(2, search=PlaidSearch(rescored=100)),
        "plaid: 4096 candidates": lambda: Plaid(2, search=PlaidSearch(candidates=4096, rescored=256)),
        "xtr": lambda: TokenRetrieval(
            Faiss("IVF{lists},Flat", search=FaissSearch(probes=32)), search=TokenSearch(1000)
        ),
        "muvera": lambda: Muvera(Faiss("Flat"), search=MuveraSearch(1000)),
    },
    "milvus_tokens": {
        "maxsim": MaxSim,
        "milvus_tokens": lambda: TokenRetrieval(Milvus(), search=TokenSearch(200, rescored=1000)),
    },
}

#: The sizes of the tables in README.md; larger ones take hours.
SIZES = {
    **{"dense": (10_000, 100_000), "sparse": (10_000, 100_000, 1_000_000), "tokens": (10_000,), "rerank": (1_000,)},
    **{"milvus_dense": (10_000,), "milvus_sparse": (10_000,), "milvus_tokens": (1_000,)},
}


def references(kind: str, documents: Vectors) -> dict[str, Search]:
    """Searches by plain code, for comparison."""
    if kind == "dense":
        flat = import_faiss().IndexFlatIP(DIM)
        flat.add(documents)

        return {"faiss as it comes": flat.search}
    if kind == "sparse":
        assert isinstance(documents, scipy.sparse.csr_array)

        def scipy_product(queries: Vectors, depth: int) -> Any:
            scores = np.stack([documents @ queries[number].toarray().ravel() for number in range(count(queries))])
            rows = np.argpartition(-scores, depth, axis=1)[:, :depth]
            return np.take_along_axis(scores, rows, 1), rows

        return {"scipy": scipy_product}
    return {}


def milliseconds(search: Search, queries: Vectors, batch: int, repetitions: int) -> float:
    """Processor time per query in batches of `batch`; the first round warms up."""
    rounds = []
    parts = [take(queries, slice(start, start + batch)) for start in range(0, count(queries), batch)]
    parts = parts[: max(1, 16 if batch == 1 else len(parts))]
    for _ in range(repetitions + 1):
        start = time.process_time()
        for part in parts:
            search(part, 10)
        rounds.append((time.process_time() - start) / sum(count(part) for part in parts) * 1000)
    return statistics.median(rounds[1:])


def limit(engine: str, documents: Vectors, queries: Vectors, batch: int, limits: Limits) -> float | None:
    """Milliseconds per query that an exact engine needs at least to compute or to read; None for the others."""
    lower = "bfloat16" in engine
    rate, width = (1e9 * limits.bf16, 2) if lower else (1e9 * limits.fp32, 4)
    read = 1e9 * limits.read
    if engine in ("faiss_flat", "torch_dense", "torch_dense bfloat16"):
        values = count(documents) * DIM
        return 1000 * max(2 * values / rate, values * width / batch / read)
    if engine in ("maxsim", "maxsim bfloat16"):
        assert isinstance(documents, TokenVectors)
        values = documents.vectors_TH.size
        return 1000 * max(2 * values * QUERY_TOKENS / rate, values * width / batch / read)
    if engine == "sparse":
        assert isinstance(documents, scipy.sparse.csr_array) and isinstance(queries, scipy.sparse.csr_array)
        frequency_V = np.bincount(documents.indices, minlength=VOCABULARY)
        return 1000 * float(frequency_V[queries.indices].sum()) / count(queries) * 6 / read
    return None


def benchmark(kind: str, rows: int, wanted: list[str] | None, limits: Limits) -> list[Any]:
    """The lines of the table of one size."""
    documents, queries, relevant = collection(kind.removeprefix("milvus_"), rows)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        encoding = encode(Path(name) / "encoding", documents)
        exact: np.ndarray | None = None
        built, folder, building = "", Path(name) / "index", 0.0
        for engine, make in ENGINES[kind].items():
            if wanted and exact is not None and engine not in wanted:
                continue
            index = make()
            if not built or not engine.startswith(f"{built}: "):  # else only the search differs
                built = engine
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                building = seconds(lambda index=index: index.build(encoding, folder))  # type: ignore[misc]
            index.load(folder)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / rows
            exact = row_of(index.search, queries) if exact is None else exact
            shares = [limit(engine, documents, queries, batch, limits) for batch in (1, QUERIES)]
            lines.append(measure(engine, index.search, queries, (exact, relevant), (building, size), shares))
        assert exact is not None
        for engine, search in references(kind, documents).items():
            lines.append(measure(engine, search, queries, (exact, relevant), (0, 0), [None, None]))
    return lines


def encode(folder: Path, documents: Vectors) -> EncodedDocuments:
    """The documents on disk."""
    folder.mkdir()
    writer = ShardWriter(folder, dtype="float32")
    for start in range(0, count(documents), 65536):
        part = take(documents, slice(start, start + 65536))
        writer.write([str(row) for row in range(start, start + count(part))], part)
    writer.close()
    return EncodedDocuments(folder)


def row_of(search: Search, queries: Vectors) -> np.ndarray:
    """The rows of the top 10."""
    return search(queries, 10)[1]


def measure(
    engine: str,
    search: Search,
    queries: Vectors,
    right: tuple[np.ndarray, np.ndarray],
    cost: tuple[float, float],
    limits: list[float | None],
) -> Any:
    """A line of the table."""
    exact, relevant = right
    found = row_of(search, queries)
    recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(found, exact, strict=True)])
    place, hit = (found == relevant[:, None]).argmax(axis=1), (found == relevant[:, None]).any(axis=1)
    gain = float((hit / np.log2(place + 2)).mean())
    times = [milliseconds(search, queries, batch, 3) for batch in (1, QUERIES)]
    shares = [None if least is None else least / took for took, least in zip(times, limits, strict=True)]
    print(f"{engine}: {times[0]:.3f} and {times[1]:.3f} ms", flush=True)
    return line(engine, cost, times, shares, (float(recall), gain))


def rerank(candidates: int) -> list[Any]:
    """Time MaxSim over the candidates of one query: vectors on disk against padded vectors in memory."""
    documents, queries, _ = collection("tokens", 10 * candidates)
    assert isinstance(documents, TokenVectors) and isinstance(queries, TokenVectors)
    rows = np.sort(np.random.default_rng(5).choice(10 * candidates, candidates, replace=False))
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "vectors.npy", documents.vectors_TH)
        mapped = TokenVectors(np.load(Path(name) / "vectors.npy", mmap_mode="r"), documents.starts_N1)
        one = take(queries, slice(0, 1))
        assert isinstance(one, TokenVectors)

        def padded() -> torch.Tensor:
            vectors, starts = documents.vectors_TH, documents.starts_N1
            parts = [torch.from_numpy(vectors[starts[row] : starts[row + 1]]) for row in rows]
            whole = pad_sequence(parts, batch_first=True)
            mask = pad_sequence([torch.ones(len(part), dtype=torch.bool) for part in parts], batch_first=True)
            similarity = torch.einsum("qh,nlh->nql", torch.from_numpy(one.vectors_TH), whole)
            return similarity.masked_fill(~mask[:, None], -torch.inf).amax(2).sum(1)

        works: dict[str, Callable[[], object]] = {
            "irexp": lambda: rescore(one, rows[None], mapped, candidates),
            "torch, padded": padded,
        }
        if importlib.util.find_spec("pylate"):  # only in a separate environment, as it needs other versions
            from pylate import rank

            vectors, starts = documents.vectors_TH, documents.starts_N1
            parts = [[torch.from_numpy(vectors[starts[row] : starts[row + 1]]) for row in rows]]
            ids, query = [rows.tolist()], [torch.from_numpy(one.vectors_TH)]
            works["PyLate"] = lambda: rank.rerank(ids, query, parts)
        lines = []
        for label, work in works.items():
            work()
            took = 1000 * statistics.median(seconds(work) for _ in range(15))
            lines.append({"engine": label, "ms": [took]})
    return lines


def main(arguments: list[str]) -> None:
    """Make the tables of a kind for the given sizes, or all of them; with engines=… they are only printed."""
    torch.set_num_threads(1)
    import_faiss().omp_set_num_threads(1)
    kinds = [argument for argument in arguments if argument in SIZES]
    sizes = [int(argument) for argument in arguments if argument.isdigit()]
    named = [a.removeprefix("engines=").split(",") for a in arguments if a.startswith("engines=")]
    if len(kinds) + len(sizes) + len(named) < len(arguments) or (arguments and len(kinds) != 1):
        sys.exit(f"benchmark.py takes one of {', '.join(SIZES)}, numbers of documents, and engines=…; or nothing")
    limits = measure_limits(2048, 2048, 2048, torch.device("cpu"))
    for kind in kinds or SIZES:
        for rows in sizes or SIZES[kind]:
            print(f"{kind}, {rows:,}:", flush=True)
            wanted = named[0] if named else None
            lines = rerank(rows) if kind == "rerank" else benchmark(kind, rows, wanted, limits)
            if named:
                print(table(kind, lines))
            else:
                keep(kind, rows, machine(limits), lines)


if __name__ == "__main__":
    main(sys.argv[1:])
