"""The naive engine over dense vectors against loops, the order of results, and shards on disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from irexp.index.compare import products
from irexp.index.exact import Exact
from irexp.index.ids import IdList
from irexp.index.ranking import rank
from irexp.index.shards import EncodedDocuments, ShardWriter
from irexp.index.vectors import join
from irexp.types import UserError

Vectors = NDArray[np.float32]


def vectors(count: int, dim: int = 8, seed: int = 0) -> Vectors:
    """Random vectors of multiples of 1/2, so that ties are exact."""
    return (np.random.default_rng(seed).integers(-3, 4, size=(count, dim)) / 2).astype(np.float32)


def naive(query_BH: Vectors, vector_NH: Vectors, depth: int, ids: list[str]) -> list[list[tuple[str, float]]]:
    """All inner products in loops, ranked by score descending, then id."""
    rankings = []
    for query in query_BH:
        scored = [
            (doc_id, sum(float(a) * float(b) for a, b in zip(query, vector, strict=True)))
            for doc_id, vector in zip(ids, vector_NH, strict=True)
        ]
        rankings.append(sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:depth])
    return rankings


def build(vector_NH: Vectors) -> Exact:
    """The naive engine, with vectors added in two batches."""
    index = Exact("dense")
    index.add(vector_NH[:3])
    index.add(vector_NH[3:])
    return index


@pytest.mark.parametrize("depth", [1, 5, 10, 60, 1000])
def test_the_ranking_is_the_naive_one(depth: int) -> None:
    """Rankings equal the loops, with ties at the cut, negative scores, and a depth beyond the collection."""
    ids = [f"d{number % 7}-{number}" for number in range(60)]
    index = build(vectors(60))
    query_BH = vectors(9, seed=1)
    assert rank(index, query_BH, depth, doc_ids=ids) == naive(query_BH, vectors(60), depth, ids)


def test_documents_with_equal_scores_are_cut_by_id() -> None:
    """If all scores are equal, the smallest ids are results, whichever rows the engine returns."""
    ids = [f"{number:02}" for number in reversed(range(50))]
    index = build(np.ones((50, 4), np.float32))
    assert [doc_id for doc_id, _ in rank(index, np.ones((1, 4), np.float32), 3, doc_ids=ids)[0]] == ["00", "01", "02"]


def test_queries_with_wrong_dimensions_or_nan_are_refused() -> None:
    """Engines would fail with a message of numpy, or return nothing for nan."""
    index = build(vectors(5))
    with pytest.raises(UserError, match="the queries have 3 dimensions and the index 8"):
        index.search(np.ones((1, 3), np.float32), 2)
    with pytest.raises(UserError, match="not a finite number"):
        rank(index, np.full((1, 8), np.nan, np.float32), 2, doc_ids=list("abcde"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_shards_are_read_as_they_were_written(tmp_path: Path, dtype: str) -> None:
    """Vectors and ids of several shards are read unchanged and in order."""
    writer = ShardWriter(tmp_path, dtype=dtype)
    writer.write(["a", "b/ü"], vectors(2))
    writer.write(["c"], vectors(1, seed=1))
    writer.close()
    encoding = EncodedDocuments(tmp_path)
    assert len(encoding) == 3
    assert list(encoding.ids) == ["a", "b/ü", "c"]
    read = join(list(encoding.batches(1)))
    assert isinstance(read, np.ndarray)
    assert np.array_equal(read, np.concatenate([vectors(2), vectors(1, seed=1)]))


@pytest.mark.parametrize("lost", [".ids", ".ends", ".vectors.npy"])
def test_an_incomplete_shard_is_written_again(tmp_path: Path, lost: str) -> None:
    """After a kill, complete shards count and all other files are removed."""
    writer = ShardWriter(tmp_path, dtype="float32")
    writer.write(["a", "b"], vectors(2))
    writer.write(["c"], vectors(1))
    (tmp_path / f"shard-00001{lost}").unlink()
    (tmp_path / "shard-00001.partial").write_bytes(b"half")
    again = ShardWriter(tmp_path, dtype="float32")
    assert again.finished == 2
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"shard-00000.ends", "shard-00000.ids", "shard-00000.vectors.npy"}
    again.write(["c"], vectors(1))
    again.close()
    assert list(EncodedDocuments(tmp_path).ids) == ["a", "b", "c"]


def test_a_damaged_encoding_is_refused(tmp_path: Path) -> None:
    """A truncated file is an error, not an encoding of fewer documents."""
    writer = ShardWriter(tmp_path, dtype="float32")
    writer.write(["a", "b"], vectors(2))
    writer.close()
    path = tmp_path / "shard-00000.vectors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="shard-00000 is missing or damaged"):
        EncodedDocuments(tmp_path)


@pytest.mark.parametrize(("dtype", "value"), [("float16", 1e5), ("float32", np.nan)])
def test_a_value_beyond_the_precision_names_its_document(tmp_path: Path, dtype: str, value: float) -> None:
    """A value that float16 cannot hold, or nan, is an error and not silently written as infinity."""
    vector_NH = vectors(2)
    vector_NH[1, 3] = value
    with pytest.raises(UserError, match="document 'b' has a value of"):
        ShardWriter(tmp_path, dtype=dtype).write(["a", "b"], vector_NH)


def test_ids_may_have_any_characters(tmp_path: Path) -> None:
    """Spaces, line breaks, other scripts and empty ids survive a round trip over two parts."""
    ids = ["", "a b", "x\ny\tz", "京都", "🙂", "a"]
    IdList.write(tmp_path / "one", ids[:2])
    IdList.write(tmp_path / "two", ids[2:])
    found = IdList([tmp_path / "one", tmp_path / "two"])
    assert list(found) == ids == [found[position] for position in range(len(found))] == found[:]
    assert list(pickle.loads(pickle.dumps(found))) == ids
    IdList.write(tmp_path / "none", [])
    assert list(IdList([tmp_path / "none", tmp_path / "two"])) == ids[2:]
    with pytest.raises(IndexError):
        found[6]


def test_the_bits_of_a_product_do_not_depend_on_the_batch() -> None:
    """A product is the same for one vector alone and in any batch, also for vectors longer than one einsum.

    Tolerance to the exact products: with random signs a sum of n terms has a size of sqrt(n), and its n roundings of
    half an eps have random signs, too. The largest of 400 errors is about n eps / 2; eight times as much is allowed.
    """
    generator = np.random.default_rng(0)
    for dim in (7, 384, 9000):
        vector_NH = generator.standard_normal((400, dim)).astype(np.float32)
        query_H = generator.standard_normal(dim).astype(np.float32)
        score_N = products(query_H, vector_NH)
        naive_N = vector_NH.astype(np.float64) @ query_H
        np.testing.assert_allclose(score_N, naive_N, rtol=0, atol=4 * dim * float(np.finfo(np.float32).eps))
        for first, last in [(0, 1), (5, 6), (3, 200)]:
            np.testing.assert_array_equal(products(query_H, vector_NH[first:last]), score_N[first:last])
