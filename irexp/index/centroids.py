"""Centroids on any device: the nearest of each vector, and k-means by Lloyd's iterations (1982).

Shapes: T vectors, C centroids, H dimensions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Products of vectors and centroids that are held at once: 256 MiB, and 2 GiB on a GPU.
_VALUES, _VALUES_ON_GPU = 2**26, 2**29


def nearest(
    vector_TH: NDArray[np.float32], centroid_CH: NDArray[np.float32], device: torch.device
) -> NDArray[np.int32]:
    """The centroid at the smallest distance; of equal ones the first."""
    half_C = torch.from_numpy((centroid_CH**2).sum(axis=1) / 2).to(device)
    codes = _nearest(
        torch.from_numpy(np.ascontiguousarray(vector_TH)), torch.from_numpy(centroid_CH).to(device), half_C
    )
    return codes.cpu().numpy().astype(np.int32)


def k_means(
    vector_TH: NDArray[np.float32], count: int, *, iterations: int, seed: int, device: torch.device
) -> NDArray[np.float32]:
    """centroid_CH: as many means of vectors that are nearer to them than to any other.

    Begins with vectors that are drawn by the seed; a centroid that is nearest to none takes the place of another such
    vector. Sums are taken in the vectors' order, so that a GPU gives the same centroids each time.
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
    """The codes of vectors on any device, on that of the centroids."""
    values = _VALUES_ON_GPU if centroids.device.type == "cuda" else _VALUES
    step = max(1, values // max(1, len(centroids)))
    codes = [
        torch.argmax(vectors[start : start + step].to(centroids.device) @ centroids.T - half_C, dim=1)
        for start in range(0, len(vectors), step)
    ]
    return torch.cat(codes) if codes else torch.empty(0, dtype=torch.int64, device=centroids.device)
