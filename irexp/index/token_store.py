"""The token vectors of a collection, end to end on disk, as the multi-vector engines keep them.

Token pooling makes fewer of them: those of a document that are most alike are replaced by their mean.

    clusters = Ward's method over the cosine distances of a document's vectors, at most n / factor of them

Source: Clavié, Chaffin and Adams 2024, arXiv:2409.14683. The first vector of a document stays as it is there, and here.

Shapes: N documents, T tokens of all documents, H dimensions, n tokens of one document.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from irexp.index.growing import GrowingArrays, read_arrays
from irexp.index.shards import Encoding
from irexp.index.vectors import TokenVectors, Vectors, count
from irexp.types import UserError


class TokenStore:
    """Writes token vectors in the precision of their encoding, pooled by `factor`."""

    def __init__(self, folder: Path, encoding: Encoding, *, factor: int = 1) -> None:
        """Take up a folder.

        Raises:
            UserError: if the factor is none, or the vectors must not be mixed.
        """
        if factor < 1:
            raise UserError(f"index.pool_factor={factor}: 1 keeps every vector, 2 makes half as many")
        if encoding.has_token_ids:
            raise UserError("vectors of different tokens are not compared in this model; use index=coil")
        self._arrays = GrowingArrays(folder)
        self._dtype, self._factor = encoding.dtype, factor
        self.finished = self._arrays.finished

    def append(self, vectors: Vectors, **further: NDArray[np.generic]) -> None:
        """Add a batch of documents, and arrays of as many rows."""
        assert isinstance(vectors, TokenVectors)
        self._arrays.append(
            {
                "vectors": vectors.vectors_TH.astype(self._dtype),
                "lengths": np.diff(vectors.starts_N1).astype(np.int32),
                **further,
            },
            documents=count(vectors),
        )

    def pooled(self, vectors: Vectors) -> TokenVectors:
        """The vectors with fewer of them, as they are after they were written and read: rounded, in fp32."""
        assert isinstance(vectors, TokenVectors)
        if self._factor == 1:
            return vectors
        fewer = pool(vectors, self._factor)
        return TokenVectors(fewer.vectors_TH.astype(self._dtype).astype(np.float32), fewer.starts_N1)

    def sample(self, encoding: Encoding, tokens: int, *, seed: int) -> NDArray[np.float32]:
        """The vectors, pooled, of as many random documents as have at least `tokens` of them, if there are so many."""
        documents = math.ceil(tokens / max(1e-6, self.tokens_a_document(encoding, seed=seed)))
        while True:
            drawn = self.pooled(encoding.sample(min(max(documents, 1), len(encoding)), seed=seed)).vectors_TH
            if len(drawn) >= tokens or documents >= len(encoding):
                return drawn
            documents = math.ceil(1.1 * documents)

    def tokens_a_document(self, encoding: Encoding, *, seed: int) -> float:
        """The vectors of a document, pooled, on average over random ones."""
        pilot = self.pooled(encoding.sample(1024, seed=seed))
        return len(pilot.vectors_TH) / max(1, count(pilot))


def read_tokens(folder: Path, made_by: str) -> TokenVectors:
    """What a `TokenStore` wrote, memory-mapped."""
    arrays = read_arrays(folder, made_by)
    return TokenVectors(arrays["vectors"], np.concatenate([[0], np.cumsum(arrays["lengths"], dtype=np.int64)]))


def pool(vectors: TokenVectors, factor: int) -> TokenVectors:
    """Replace vectors that are alike by their mean, normalised if they were."""
    parts = [
        _pool(np.asarray(vectors.vectors_TH[start:end], dtype=np.float32), factor)
        for start, end in zip(vectors.starts_N1[:-1].tolist(), vectors.starts_N1[1:].tolist(), strict=True)
    ]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return TokenVectors(np.concatenate(parts) if parts else vectors.vectors_TH, starts)


def _pool(vector_nH: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    first, rest_nH = vector_nH[:1], vector_nH[1:]
    wanted = max(1, len(rest_nH) // factor)
    if len(rest_nH) <= wanted:
        return vector_nH
    norm_n1 = np.linalg.norm(rest_nH, axis=1, keepdims=True)
    unit_nH = rest_nH / np.maximum(norm_n1, 1e-12)
    distance_nn = np.clip(1 - unit_nH @ unit_nH.T, 0, None)
    upper = distance_nn[np.triu_indices(len(unit_nH), k=1)]
    cluster_n = fcluster(linkage(upper, method="ward"), wanted, criterion="maxclust") - 1
    sum_kH = np.zeros((cluster_n.max() + 1, rest_nH.shape[1]), dtype=np.float32)
    np.add.at(sum_kH, cluster_n, rest_nH)
    mean_kH = sum_kH / np.bincount(cluster_n)[:, None].astype(np.float32)
    if np.allclose(norm_n1, 1, atol=1e-2):
        mean_kH /= np.maximum(np.linalg.norm(mean_kH, axis=1, keepdims=True), 1e-12)
    return np.concatenate([first, mean_kH])
