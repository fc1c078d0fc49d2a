"""PLAID: late interaction over centroids and compressed residuals, with exact scores for the remaining candidates.

    v ~ normalise(centroid[code] + bucket value of each dimension of the residual)   (if vectors have length 1)

1. About 8 sqrt(T) centroids are learned by k-means from the vectors of random documents.
2. For each query token the `probes` nearest centroids are looked up; all documents with a token there are candidates.
3. Candidates are scored with each token replaced by its centroid: first without the centroids that are far from every
   query token (`threshold`), which keeps `candidates`, then with all centroids, which keeps a quarter of these.
4. These are decompressed and scored by MaxSim; the best `rescored` are scored by MaxSim of the original vectors.

Source: Santhanam et al. 2022, arXiv:2205.09707, whose settings for 100 results are the defaults here (except half as
many centroids, and no threshold, which saved no time on two collections), and ColBERTv2, arXiv:2112.01488, for the
residuals. The last part of step 4 is our addition: original vectors stay on disk.

Shapes: N documents, T tokens of all documents, C centroids, H dimensions, R bytes of a residual, Q tokens of a query,
M candidates, K results per query.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.centroids import k_means, nearest
from irexp.index.faiss_structure import import_faiss
from irexp.index.growing import GrowingArrays, read_arrays, remove_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import count_candidates, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.threads import in_threads
from irexp.index.token_store import TokenStore, read_tokens
from irexp.index.top import top
from irexp.index.vectors import Queries, TokenVectors, Vectors, count, dim
from irexp.types import UserError

log = logging.getLogger(__name__)

_LEARNED = "centroids.npz"
_POSTINGS = "postings"

#: Training vectors per centroid.
_PER_CENTROID = 32


@dataclass(frozen=True)
class PlaidSearch:
    """Search settings.

    Attributes:
        probes: the number of centroids that are looked up per query token.
        threshold: centroids with a lower score for every query token are left out at first; None uses all.
        candidates: the number of documents after the first scoring; a quarter of them is decompressed.
        rescored: the number of documents that are scored exactly, at least the search depth; 0 for none.
    """

    probes: int = 2
    threshold: float | None = None
    candidates: int = 1024
    rescored: int = 0


class Plaid(StreamedIndex):
    """Centroids, residuals, and the original token vectors."""

    takes = "tokens"

    def __init__(
        self,
        bits: int = 2,
        *,
        centroids: int | None = None,
        iterations: int = 4,
        pool_factor: int = 1,
        seed: int = 0,
        search: PlaidSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            bits: per dimension of a residual: 1, 2, 4 or 8.
            centroids: the number of centroids; None for the largest power of two up to 8 sqrt(T).
            iterations: of k-means.
            pool_factor: how many vectors of a document are replaced by one, on average.
            seed: of the sample and of k-means.
            search: the search settings.
        """
        if bits not in (1, 2, 4, 8):
            raise UserError(f"index.bits={bits}: residuals have 1, 2, 4 or 8 bits")
        self._bits, self._centroids, self._iterations = bits, centroids, iterations
        self._factor, self._seed, self._search = pool_factor, seed, search or PlaidSearch()
        check_least(1, {"centroids": centroids, "pool_factor": pool_factor})
        check_least(1, {"search.probes": self._search.probes, "search.candidates": self._search.candidates})
        check_least(0, {"iterations": iterations, "seed": seed, "search.rescored": self._search.rescored})
        self._device = torch.device("cpu")
        self._folder: Path | None = None
        self._store: TokenStore | None = None
        self._tokens = TokenVectors(np.empty((0, 0), np.float32), np.zeros(1, np.int64))
        self._learned: dict[str, NDArray[np.float32]] = {}
        self._postings: dict[str, NDArray[Any]] = {}
        self._codes_T = np.empty(0, np.int32)
        self._residuals_TR = np.empty((0, 0), np.uint8)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return False

    def build_on(self, device: torch.device) -> None:
        """Learn and look up centroids on a device."""
        self._device = device

    def check(self, count: int | None, dim: int) -> None:
        """Check that the codes of a residual fill whole bytes."""
        if dim * self._bits % 8:
            raise UserError(
                f"index.bits={self._bits}: residuals of {dim} dimensions do not fill whole bytes; use 2, 4 or 8 bits"
            )

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Learn centroids and buckets from a sample, unless a killed process has."""
        self.check(len(encoding), encoding.dim)
        self._folder = folder
        self._store = TokenStore(folder, encoding, factor=self._factor)
        if not (folder / _LEARNED).is_file():
            self._learned = self._learn(encoding)
            with (folder / f"{_LEARNED}.partial").open("wb") as file:
                np.savez(file, **self._learned)  # type: ignore[arg-type]
            (folder / f"{_LEARNED}.partial").rename(folder / _LEARNED)
        else:
            with np.load(folder / _LEARNED) as learned:
                self._learned = dict(learned)
        return self._store.finished

    def _learn(self, encoding: EncodedDocuments) -> dict[str, NDArray[np.float32]]:
        assert self._store is not None
        tokens = self._store.tokens_per_document(encoding, seed=self._seed) * len(encoding)
        centroids = self._centroids or 2 ** max(0, math.floor(math.log2(max(1.0, 8 * math.sqrt(tokens)))))
        sample_TH = self._store.sample(encoding, centroids * _PER_CENTROID, seed=self._seed)
        if not len(sample_TH):  # no document has a vector: nothing will be found
            sample_TH = np.zeros((1, encoding.dim), np.float32)
        centroids = min(centroids, len(sample_TH))
        log.info("plaid learns %s centroids from %s vectors", f"{centroids:,}", f"{len(sample_TH):,}")
        centroid_CH = self._means(sample_TH, centroids)
        is_unit = np.allclose(np.linalg.norm(sample_TH, axis=1), 1, atol=1e-2)
        if is_unit:
            centroid_CH /= np.maximum(np.linalg.norm(centroid_CH, axis=1, keepdims=True), 1e-12)
        residual_TH = sample_TH - centroid_CH[nearest(sample_TH, centroid_CH, self._device)]
        steps = 2**self._bits
        ends = np.quantile(residual_TH, np.arange(1, steps) / steps).astype(np.float32)
        values = np.quantile(residual_TH, (np.arange(steps) + 0.5) / steps).astype(np.float32)
        return {"centroids": centroid_CH, "ends": ends, "values": values, "is_unit": np.array([is_unit], np.float32)}

    def _means(self, sample_TH: NDArray[np.float32], centroids: int) -> NDArray[np.float32]:
        """The centroids of a sample."""
        if self._device.type == "cuda":
            return k_means(sample_TH, centroids, iterations=self._iterations, seed=self._seed, device=self._device)
        faiss = import_faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())
        options = {"niter": self._iterations, "seed": self._seed + 1, "min_points_per_centroid": 1}
        kmeans = faiss.Kmeans(sample_TH.shape[1], centroids, **options, max_points_per_centroid=10**9)
        kmeans.train(np.ascontiguousarray(sample_TH))
        centroid_CH: NDArray[np.float32] = kmeans.centroids.astype(np.float32)
        return centroid_CH

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert self._store is not None
        tokens = self._store.pooled(vectors)
        centroid_CH = self._learned["centroids"]
        code_T = nearest(tokens.vectors_TH, centroid_CH, self._device)
        bucket_TH = np.searchsorted(self._learned["ends"], tokens.vectors_TH - centroid_CH[code_T]).astype(np.uint8)
        self._store.append(tokens, codes=code_T, residuals=_pack(bucket_TH, self._bits))

    def finish(self) -> None:
        """Write the list of documents with a token at each centroid."""
        assert self._store is not None and self._folder is not None
        from irexp.index.plaid_kernels import list_documents

        codes_T = read_arrays(self._folder)["codes"]
        starts_N1 = read_tokens(self._folder, "index=plaid").starts_N1
        remove_arrays(self._folder / _POSTINGS)
        (self._folder / _POSTINGS).mkdir()
        writer = GrowingArrays(self._folder / _POSTINGS)
        count_C = np.zeros(len(self._learned["centroids"]), np.int64)
        list_documents(codes_T, starts_N1, count_C, np.empty(0, np.int32))
        start_C1 = np.concatenate([[0], np.cumsum(count_C)])
        row_P = writer.reserve("rows", np.dtype(np.int32), (int(start_C1[-1]),))
        list_documents(codes_T, starts_N1, start_C1[:-1].copy(), row_P)
        writer.append({"starts": start_C1}, documents=len(starts_N1) - 1)

    def load(self, folder: Path) -> None:
        """Memory-map codes and vectors, and read the centroids."""
        arrays = read_arrays(folder, "index=plaid")
        self._postings = read_arrays(folder / _POSTINGS, "index=plaid")
        self._tokens = read_tokens(folder, "index=plaid")
        self._codes_T, self._residuals_TR = arrays["codes"], arrays["residuals"]
        with np.load(folder / _LEARNED) as learned:
            self._learned = dict(learned)

    def __len__(self) -> int:
        return count(self._tokens)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those with a token at its nearest centroids."""
        assert isinstance(queries, TokenVectors)
        check_dim(dim(queries), dim(self._tokens))
        depth = min(depth, len(self))
        wanted = count_candidates(self._search.rescored, depth, self._tokens)
        parts = [queries.vectors_TH[s:e] for s, e in zip(queries.starts_N1[:-1], queries.starts_N1[1:], strict=True)]
        found = list(in_threads(lambda query_QH: self._search_one(query_QH, wanted), parts))
        row_BC = np.stack([rows for _, rows in found])
        if self._search.rescored:
            return rescore(queries, row_BC, self._tokens, depth)
        return np.stack([scores for scores, _ in found]), row_BC

    def _search_one(self, query_QH: NDArray[np.float32], wanted: int) -> tuple[Scores, Rows]:
        from irexp.index.plaid_kernels import interact

        score_CQ = self._learned["centroids"] @ query_QH.T
        row_M = self._candidates(score_CQ)
        is_used_C = np.ones(len(score_CQ), np.bool_)
        kept = max(self._search.candidates, 4 * wanted)
        if self._search.threshold is not None and len(row_M) > kept:
            is_near_C = score_CQ.max(axis=1, initial=-np.inf) >= self._search.threshold
            row_M = row_M[top(interact(score_CQ, is_near_C, self._codes_T, self._tokens.starts_N1, row_M), kept)]
        if len(row_M) > kept // 4:
            near_M = interact(score_CQ, is_used_C, self._codes_T, self._tokens.starts_N1, row_M)
            row_M = row_M[top(near_M, max(kept // 4, wanted))]
        score_M = self._decompressed(query_QH, row_M)
        best = top(score_M, wanted)
        score_K, row_K = np.full(wanted, -np.inf, np.float32), np.full(wanted, -1, np.int64)
        score_K[: len(best)], row_K[: len(best)] = score_M[best], row_M[best]
        return score_K, row_K

    def _candidates(self, score_CQ: NDArray[np.float32]) -> Rows:
        """The documents with a token at one of the nearest centroids of a query token."""
        probes = min(self._search.probes, len(score_CQ))
        if probes < len(score_CQ):
            near = np.unique(np.argpartition(-score_CQ, probes - 1, axis=0)[:probes])
        else:
            near = np.arange(len(score_CQ))
        is_candidate_N = np.zeros(len(self), dtype=np.bool_)
        starts, rows = self._postings["starts"], self._postings["rows"]
        for centroid in near.tolist():
            is_candidate_N[rows[starts[centroid] : starts[centroid + 1]]] = True
        return np.flatnonzero(is_candidate_N)

    def _decompressed(self, query_QH: NDArray[np.float32], row_M: Rows) -> Scores:
        """MaxSim of the candidates' decompressed vectors."""
        from irexp.index.plaid_kernels import decompress

        if not len(row_M):
            return np.empty(0, np.float32)
        length_M = (self._tokens.starts_N1[row_M + 1] - self._tokens.starts_N1[row_M]).astype(np.int64)
        vector_TH = np.empty((int(length_M.sum()), query_QH.shape[1]), np.float32)
        table = _unpacking_table(self._learned["values"], self._bits)
        starts_N1 = self._tokens.starts_N1
        is_unit = bool(self._learned["is_unit"][0])
        codes_T, residuals_TR = self._codes_T, self._residuals_TR
        decompress(residuals_TR, codes_T, self._learned["centroids"], table, starts_N1, row_M, is_unit, vector_TH)
        first_M = np.concatenate([[0], np.cumsum(length_M)[:-1]])
        score_M: Scores = np.maximum.reduceat(vector_TH @ query_QH.T, first_M, axis=0).sum(axis=1)
        return score_M


def _pack(bucket_TH: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Several codes per byte, the first in the highest bits.

    >>> _pack(np.array([[1, 0, 0, 1, 1, 1, 1, 1]], np.uint8), 1).tolist()
    [[159]]
    """
    per_byte = 8 // bits
    parts = bucket_TH.reshape(len(bucket_TH), bucket_TH.shape[1] // per_byte, per_byte)
    packed = np.zeros(parts.shape[:2], np.uint8)
    for place in range(per_byte):
        packed |= parts[:, :, place] << (bits * (per_byte - 1 - place))
    return packed


def _unpacking_table(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The values of the codes in each byte."""
    byte = np.arange(256)[:, None]
    shifts = bits * np.arange(8 // bits - 1, -1, -1)
    table: NDArray[np.float32] = values[(byte >> shifts) & (2**bits - 1)]
    return table
