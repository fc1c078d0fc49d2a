"""Nearest centroids, and k-means by Lloyd's algorithm (1982), on any device.

Shapes: T vectors, C centroids, H dimensions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Products of vectors and centroids held in memory: 256 MiB, and 2 GiB on a GPU.
_VALUES, _VALUES_ON_GPU = 2**26, 2**29


def nearest(
    vector_TH: NDArray[np.float32], centroid_CH: NDArray[np.float32], device: torch.device
) -> NDArray[np.int32]:
    """The nearest centroid of each vector; the first one of ties."""
    half_C = torch.from_numpy((centroid_CH**2).sum(axis=1) / 2).to(device)
    codes = _nearest(
        torch.from_numpy(np.ascontiguousarray(vector_TH)), torch.from_numpy(centroid_CH).to(device), half_C
    )
    return codes.cpu().numpy().astype(np.int32)


def k_means(
    vector_TH: NDArray[np.float32], count: int, *, iterations: int, seed: int, device: torch.device
) -> NDArray[np.float32]:
    """centroid_CH: the means of `count` clusters.

    Starts from random vectors, drawn by the seed; an empty cluster's centroid is replaced by another random vector.
    Sums are taken in the order of the vectors, so that a GPU gives the same centroids each time.
    """
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(len(vector_TH))).to(device)
    vectors = torch.from_numpy(np.ascontiguousarray(vector_TH)).to(device)
    centroids = vectors[drawn[:count]]
    for iteration in range(iterations):
        codes = _nearest(vectors, centroids, centroids.square().sum(dim=1) / 2)
        size_C = torch.bincount(codes, minlength=count)
        total_CH = torch.segment_reduce(vectors[codes.argsort(stable=True)], "sum", lengths=size_C, initial=0.0)
        centroids = total_CH / size_C.clamp(min=1)[:, None]
        empty = (size_C == 0).nonzero().flatten()
        centroids[empty] = vectors[drawn[(count * (iteration + 1) + empty) % len(drawn)]]
    return centroids.cpu().numpy()


def _nearest(vectors: Tensor, centroids: Tensor, half_C: Tensor) -> Tensor:
    """The number of each vector's nearest centroid, on the centroids' device; vectors may be on another."""
    values = _VALUES_ON_GPU if centroids.device.type == "cuda" else _VALUES
    step = max(1, values // max(1, len(centroids)))
    codes = [
        torch.argmax(vectors[start : start + step].to(centroids.device) @ centroids.T - half_C, dim=1)
        for start in range(0, len(vectors), step)
    ]
    return torch.cat(codes) if codes else torch.empty(0, dtype=torch.int64, device=centroids.device)
