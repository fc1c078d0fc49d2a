"""Python's memory does not grow with the tokens of a collection; memory-mapped files do not count."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from irexp.index.coil import CoilIndex
from irexp.index.faiss_index import Faiss
from irexp.index.index import StreamedIndex
from irexp.index.plaid import Plaid
from irexp.index.shards import EncodedDocuments
from irexp.index.token_retrieval import TokenRetrieval
from irexp.index.vectors import TokenVectors, count, take
from tests.engines import built, encode

TOKENS = 2**18


@contextmanager
def at_most(size: float) -> Iterator[None]:
    """Assert that no more than `size` bytes are allocated at the same time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def tokens(*, with_ids: bool) -> TokenVectors:
    """Sixteen tokens per document."""
    generator = np.random.default_rng(0)
    vectors = generator.integers(-9, 9, size=(TOKENS, 4)).astype(np.float32)
    ids = generator.integers(0, 500, size=TOKENS).astype(np.int32)
    return TokenVectors(vectors, np.arange(0, TOKENS + 1, 16), ids if with_ids else None)


@pytest.mark.parametrize(("engine", "with_ids"), [(CoilIndex, True), (lambda: Plaid(2, centroids=16), False)])
def test_finishing_an_index_takes_two_bytes_per_token(
    tmp_path: Path, engine: Callable[[], StreamedIndex], with_ids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorting all vectors in memory would take at least nineteen bytes per token."""
    monkeypatch.setattr("irexp.index.coil._COPIED", 2**12)
    documents = tokens(with_ids=with_ids)
    few = take(documents, slice(0, 9))
    built(engine(), encode(tmp_path / "few", few), tmp_path / "compiled")  # the compiler's memory does not count
    index, encoding = engine(), encode(tmp_path / "encoding", documents)
    index.begin(encoding, tmp_path)
    for vectors in encoding.batches():
        index.add(vectors)
    with at_most(2 * TOKENS + 2**20):
        index.finish()
    index.load(tmp_path)
    assert len(index) == count(documents)


def test_a_resume_reads_tokens_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all of them together in fp32 would take sixteen bytes per token here."""
    monkeypatch.setattr("irexp.index.token_retrieval._READ", 2**12)
    encoding = encode(tmp_path / "encoding", tokens(with_ids=False), dtype="float16")
    index = TokenRetrieval(Faiss("Flat"))
    index.begin(encoding, tmp_path)
    for vectors in encoding.batches():
        index.add(vectors)
    with at_most(4 * TOKENS + 2**20):
        assert TokenRetrieval(Faiss("Flat")).begin(encoding, tmp_path) == len(encoding)


def test_half_precision_stays_on_disk(tmp_path: Path) -> None:
    """Sparse values are converted to fp32 batch by batch, not when the encoding is opened."""
    values = np.random.default_rng(0).random((2**12, 500)).astype(np.float32)
    documents = scipy.sparse.csr_array(np.where(values > 0.9, values, 0))
    encode(tmp_path / "encoding", documents, dtype="float16", shards=1)
    with at_most(documents.nnz):
        encoding = EncodedDocuments(tmp_path / "encoding")
        first = next(iter(encoding.batches(64)))
    assert isinstance(first, scipy.sparse.csr_array) and count(first) == 64
    np.testing.assert_array_equal(first.toarray(), documents[:64].toarray().astype(np.float16))
    sample = encoding.sample(2**11, seed=0)
    assert isinstance(sample, scipy.sparse.csr_array) and sample.dtype == np.float32
    assert 0 < sample.max() <= 1
