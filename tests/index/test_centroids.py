"""The k-means and nearest centroids that are used on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irexp.index.centroids import k_means, nearest
from irexp.index.faiss_structure import import_faiss
from irexp.index.plaid import Plaid
from tests.engines import ENGINES, encode, vectors_of

CPU = torch.device("cpu")


def clustered(rows: int) -> NDArray[np.float32]:
    """Vectors around sixteen points."""
    generator = np.random.default_rng(0)
    points = generator.standard_normal((16, 8))[generator.integers(16, size=rows)]
    return (points + 0.2 * generator.standard_normal((rows, 8))).astype(np.float32)


def squared_error(vector_TH: NDArray[np.float32], centroid_CH: NDArray[np.float32]) -> float:
    """The mean squared distance to the nearest centroid, in loops."""
    return float(np.mean([min(((v - c) ** 2).sum() for c in centroid_CH) for v in vector_TH]))


def test_the_nearest_centroid_has_the_smallest_distance() -> None:
    """Results equal a naive loop; of two equal centroids the first one is taken."""
    vectors = clustered(50)
    centroids = np.concatenate([vectors[:7], vectors[:1]])
    expected = [int(np.argmin([((v - c) ** 2).sum() for c in centroids])) for v in vectors]
    assert nearest(vectors, centroids, CPU).tolist() == expected
    assert nearest(vectors[:0], centroids, CPU).tolist() == []


@pytest.mark.parametrize("count", [16, 200])
def test_k_means_is_as_good_as_faiss(count: int) -> None:
    """After the same iterations the mean error over four seeds is at most 3 % above faiss's.

    The vectors have no clusters, in which the initial centroids would decide everything.
    """
    vectors = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    ours, theirs = [], []
    for seed in range(4):
        ours.append(squared_error(vectors, k_means(vectors, count, iterations=4, seed=seed, device=CPU)))
        faiss_k_means = import_faiss().Kmeans(8, count, niter=4, seed=seed + 1, min_points_per_centroid=1)
        faiss_k_means.train(vectors)
        theirs.append(squared_error(vectors, faiss_k_means.centroids))
    assert np.mean(ours) < 1.03 * np.mean(theirs)


def test_the_same_seed_gives_the_same_centroids() -> None:
    """Centroids are bit-identical for the same seed, and differ for another."""
    vectors = clustered(300)
    one, again, other = (k_means(vectors, 20, iterations=3, seed=seed, device=CPU) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_centroid_of_an_empty_cluster_is_replaced_by_a_vector() -> None:
    """With many equal vectors most clusters are empty; their centroids must not become nan."""
    vectors = np.repeat(clustered(3), 10, axis=0)
    centroids = k_means(vectors, 12, iterations=4, seed=0, device=CPU)
    assert np.isfinite(centroids).all()
    assert squared_error(vectors, centroids) < 1e-10


def test_plaid_finds_the_same_with_its_own_k_means_as_with_faisss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exhaustive settings both give the exact results."""
    case = ENGINES["plaid"]
    encoding, queries = encode(tmp_path / "encoding", vectors_of(case, 60, 0)), vectors_of(case, 5, 1)
    found = []
    for name in ("faiss", "ours"):
        if name == "ours":
            monkeypatch.setattr(
                Plaid, "_means", lambda self, sample, n: k_means(sample, n, iterations=4, seed=0, device=CPU)
            )
        engine = case.exhaustive()
        (tmp_path / name).mkdir()
        engine.build(encoding, tmp_path / name)
        engine.load(tmp_path / name)
        found.append(engine.search(queries, 10))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
