"""The token vectors of a collection, concatenated on disk, for the multi-vector engines.

Token pooling reduces their number: the most similar vectors of a document are replaced by their mean.

    clusters = Ward's method over the cosine distances of a document's vectors, at most n / factor of them

Source: Clavié, Chaffin and Adams 2024, arXiv:2409.14683. As there, the first vector of a document is not pooled.

Shapes: N documents, T tokens of all documents, H dimensions, n tokens of one document.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from irexp.index.growing import GrowingArrays, read_arrays
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import TokenVectors, Vectors, count
from irexp.types import UserError


class TokenStore:
    """Writes token vectors in the precision of their encoding, pooled by `factor`."""

    def __init__(self, folder: Path, encoding: EncodedDocuments, *, factor: int = 1) -> None:
        """Open or resume a folder.

        Raises:
            UserError: if the vectors have token ids and must not be pooled.
        """
        if encoding.has_token_ids:
            raise UserError("this model compares only vectors of the same token; use index=coil")
        self._arrays = GrowingArrays(folder)
        self._dtype, self._factor = encoding.dtype, factor
        self.finished = self._arrays.finished

    def append(self, vectors: Vectors, **further: NDArray[np.generic]) -> None:
        """Add a batch of documents, and further arrays for the same documents."""
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
        """The pooled vectors, rounded to the stored precision, in fp32."""
        assert isinstance(vectors, TokenVectors)
        if self._factor == 1:
            return vectors
        fewer = pool(vectors, self._factor)
        return TokenVectors(fewer.vectors_TH.astype(self._dtype).astype(np.float32), fewer.starts_N1)

    def sample(self, encoding: EncodedDocuments, tokens: int, *, seed: int) -> NDArray[np.float32]:
        """The pooled vectors of random documents: at least `tokens` vectors, or those of all documents."""
        documents = math.ceil(tokens / max(1e-6, self.tokens_per_document(encoding, seed=seed)))
        while True:
            drawn = self.pooled(encoding.sample(min(max(documents, 1), len(encoding)), seed=seed)).vectors_TH
            if len(drawn) >= tokens or documents >= len(encoding):
                return drawn
            documents = math.ceil(1.1 * documents)

    def tokens_per_document(self, encoding: EncodedDocuments, *, seed: int) -> float:
        """The average number of pooled vectors per document, estimated from a random sample."""
        pilot = self.pooled(encoding.sample(1024, seed=seed))
        return len(pilot.vectors_TH) / max(1, count(pilot))


def read_tokens(folder: Path, made_by: str) -> TokenVectors:
    """The token vectors that a `TokenStore` wrote, memory-mapped."""
    arrays = read_arrays(folder, made_by)
    return TokenVectors(arrays["vectors"], np.concatenate([[0], np.cumsum(arrays["lengths"], dtype=np.int64)]))


def pool(vectors: TokenVectors, factor: int) -> TokenVectors:
    """Replace similar vectors by their mean, normalised if the vectors are."""
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
