"""The naive engine over sparse and token vectors against loops; ragged vectors in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from irexp.index.compare import compare
from irexp.index.exact import Exact
from irexp.index.ranking import rank
from irexp.index.shards import EncodedDocuments, ShardWriter
from irexp.index.vectors import TokenVectors, Vectors, count, first_faulty, join, take

IDS = [f"d{i}" for i in range(9)]


def sparse(rows: int, seed: int = 0) -> scipy.sparse.csr_array:
    """Random vectors of multiples of 1/2, mostly zero, the second row empty."""
    values = np.random.default_rng(seed).integers(0, 6, size=(rows, 12)).astype(np.float32) / 2
    values[values < 2] = 0
    values[1] = 0
    return scipy.sparse.csr_array(values)


def tokens(rows: int, seed: int = 0, *, with_ids: bool = False) -> TokenVectors:
    """Texts of one to five random token vectors; with ids, each text has one negative id."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 6, size=rows)
    vectors = (generator.integers(-3, 4, size=(lengths.sum(), 4)) / 2).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = generator.integers(0, 4, size=lengths.sum()).astype(np.int32)
    ids[starts[:-1]] = -1
    return TokenVectors(vectors, starts, ids if with_ids else None)


def naive_tokens(query: TokenVectors, document: TokenVectors) -> list[list[float]]:
    """The formula of `irexp.index.compare` in loops."""
    scores = []
    for q in range(count(query)):
        row = []
        for d in range(count(document)):
            total = 0.0
            for i in range(query.starts_N1[q], query.starts_N1[q + 1]):
                products = []
                for j in range(document.starts_N1[d], document.starts_N1[d + 1]):
                    if query.token_ids_T is None or document.token_ids_T is None:
                        products.append(float(query.vectors_TH[i] @ document.vectors_TH[j]))
                    elif query.token_ids_T[i] == document.token_ids_T[j]:
                        product = float(query.vectors_TH[i] @ document.vectors_TH[j])
                        products.append(product if query.token_ids_T[i] < 0 else max(0.0, product))
                total += max(products, default=0.0)
            row.append(total)
        scores.append(row)
    return scores


@pytest.mark.parametrize("with_ids", [False, True])
def test_maxsim_equals_its_formula(with_ids: bool) -> None:
    """Scores equal the loops, with and without token ids."""
    query, document = tokens(3, 1, with_ids=with_ids), tokens(9, 2, with_ids=with_ids)
    np.testing.assert_allclose(compare(query, document), naive_tokens(query, document), atol=1e-5)


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("depth", [1, 4, 100])
def test_the_naive_engine_for_tokens_equals_the_loops(depth: int, with_ids: bool) -> None:
    """Rankings equal the loops, with vectors added in two batches, and ties broken by document id."""
    query, document = tokens(3, 1, with_ids=with_ids), tokens(9, 2, with_ids=with_ids)
    index = Exact("tokens")
    index.add(take(document, slice(0, 4)))
    index.add(take(document, slice(4, None)))
    expected = [
        sorted(zip(IDS, row, strict=True), key=lambda pair: (-pair[1], pair[0]))[:depth]
        for row in naive_tokens(query, document)
    ]
    found = rank(index, query, depth, doc_ids=IDS)
    assert [[doc_id for doc_id, _ in ranking] for ranking in found] == [[d for d, _ in ranking] for ranking in expected]
    for ours, naive in zip(found, expected, strict=True):
        np.testing.assert_allclose([score for _, score in ours], [score for _, score in naive], atol=1e-5)


@pytest.mark.parametrize("depth", [1, 4, 100])
def test_the_naive_engine_for_sparse_vectors_equals_the_loops(depth: int) -> None:
    """Only documents that share a term are results, ranked by the sum of products; an empty query has none."""
    query, document = sparse(3, 1), sparse(9, 2)
    index = Exact("sparse")
    index.add(take(document, slice(0, 4)))
    index.add(take(document, slice(4, None)))
    assert len(index) == 9
    dense_query, dense_document = query.toarray(), document.toarray()
    expected = []
    for q in range(3):
        scored = [
            (IDS[d], sum(float(dense_query[q, v]) * float(dense_document[d, v]) for v in range(12)))
            for d in range(9)
            if any(dense_query[q, v] and dense_document[d, v] for v in range(12))
        ]
        expected.append(sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:depth])
    assert rank(index, query, depth, doc_ids=IDS) == expected
    assert expected[1] == []


@pytest.mark.parametrize("vectors", [sparse(9), tokens(9), tokens(9, with_ids=True)], ids=["sparse", "tokens", "ids"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_encoding_is_read_as_it_was_written(tmp_path: Path, vectors: Vectors, dtype: str) -> None:
    """Two shards are read in fp32 in batches of any size; multiples of 1/2 are exact in half precision."""
    writer = ShardWriter(tmp_path, dtype=dtype)
    writer.write(IDS[:5], take(vectors, slice(0, 5)))
    again = ShardWriter(tmp_path, dtype=dtype)  # as after a kill
    assert again.finished == 5
    again.write(IDS[5:], take(vectors, slice(5, None)))
    again.close()
    encoding = EncodedDocuments(tmp_path)
    assert len(encoding) == 9
    assert list(encoding.ids) == IDS
    assert encoding.dim == (12 if scipy.sparse.issparse(vectors) else 4)
    for size in (1, 4, None):
        read = join(list(encoding.batches(size)))
        np.testing.assert_array_equal(compare(read, read), compare(vectors, vectors))


def test_take_returns_token_vectors_in_the_given_order() -> None:
    """Taking rows of a ragged array equals joining them one by one."""
    vectors = tokens(6)
    order = np.array([4, 0, 5])
    parts = join([take(vectors, slice(row, row + 1)) for row in order])
    taken = take(vectors, order)
    assert isinstance(parts, TokenVectors)
    assert isinstance(taken, TokenVectors)
    np.testing.assert_array_equal(taken.vectors_TH, parts.vectors_TH)
    np.testing.assert_array_equal(taken.starts_N1, parts.starts_N1)


def test_first_faulty_finds_the_text_with_nan_or_infinity() -> None:
    """The position is that of the text, not of its token or term."""
    vectors = tokens(6)
    assert first_faulty(vectors) is None
    vectors.vectors_TH[vectors.starts_N1[3], 1] = np.nan
    assert first_faulty(vectors) == 3
    values = sparse(6)
    values.data[values.indptr[4]] = np.inf
    assert first_faulty(values) == 4


def test_a_document_without_a_shared_token_is_not_a_result() -> None:
    """With token ids, such a document has no score, rather than a score of zero."""
    ones = np.ones((3, 2), np.float32)
    index = Exact("tokens")
    index.add(TokenVectors(ones, np.array([0, 1, 2, 3, 3]), np.array([4, 5, 4], np.int32)))
    query = TokenVectors(-ones[:1], np.array([0, 1]), np.array([4], np.int32))
    assert rank(index, query, 9, doc_ids=list("abcd")) == [[("a", 0.0), ("c", 0.0)]]
