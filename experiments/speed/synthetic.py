"""Synthetic vectors with the structure of text embeddings, and queries with one relevant document each."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from irexp.index.vectors import TokenVectors, Vectors

DIM, TOKEN_DIM, VOCABULARY = 384, 128, 30522
QUERIES, QUERY_TOKENS, OWN_TOKENS = 64, 32, 16


def dense(rows: int, seed: int) -> np.ndarray:
    """Unit vectors of 48 intrinsic dimensions around 2,000 centres."""
    fixed, generator = np.random.default_rng(0), np.random.default_rng(seed)
    basis, centres = fixed.standard_normal((48, DIM)), fixed.standard_normal((2000, 48))
    latent = centres[generator.integers(0, 2000, rows)] + 0.7 * generator.standard_normal((rows, 48))
    vectors = latent @ basis + 0.5 * generator.standard_normal((rows, DIM))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def sparse(rows: int, terms: int, seed: int) -> scipy.sparse.csr_array:
    """Terms by Zipf's law with exponential weights."""
    generator = np.random.default_rng(seed)
    weight_V = 1 / (np.arange(VOCABULARY) + 50.0)
    drawn = generator.choice(VOCABULARY, (rows, terms), p=weight_V / weight_V.sum())
    indptr = np.arange(0, rows * terms + 1, terms)
    values = generator.exponential(0.5, rows * terms).astype(np.float32) + 0.01
    matrix = scipy.sparse.csr_array((values, drawn.ravel(), indptr), shape=(rows, VOCABULARY))
    matrix.sum_duplicates()
    return matrix


def tokens(rows: int, length: int, seed: int) -> TokenVectors:
    """About `length` tokens per text, some far more: noisy vectors of a vocabulary, shifted by the text's topic."""
    fixed, generator = np.random.default_rng(0), np.random.default_rng(seed)
    words, topics = fixed.standard_normal((8000, TOKEN_DIM)), fixed.standard_normal((500, TOKEN_DIM))
    lengths = np.clip(generator.lognormal(np.log(0.9 * length), 0.53, rows).astype(int), 4, 5 * length)  # as Vaswani's
    owner = np.repeat(np.arange(rows), lengths)
    topic = generator.integers(0, 500, rows)
    favourite = generator.integers(0, 8000, (500, 200))
    word = favourite[topic[owner], generator.integers(0, 200, len(owner))]
    vectors = words[word] + 0.6 * topics[topic[owner]]
    vectors = (vectors + 0.5 * generator.standard_normal(vectors.shape, dtype=np.float32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TokenVectors(vectors, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def collection(kind: str, rows: int) -> tuple[Vectors, Vectors, np.ndarray]:
    """Documents, queries, and the relevant document of each query."""
    generator = np.random.default_rng(3)
    relevant = generator.choice(rows, QUERIES, replace=False)
    if kind == "dense":
        vectors = dense(rows, 1)
        return vectors, unit(vectors[relevant] + 0.16 * generator.standard_normal((QUERIES, DIM))), relevant
    if kind == "sparse":
        matrix = sparse(rows, 120, 1)
        return matrix, some_terms(matrix[relevant], 25, generator), relevant
    documents = tokens(rows, 50, 1)
    parts = []
    for row in relevant:
        own = documents.vectors_TH[documents.starts_N1[row] : documents.starts_N1[row + 1]]
        foreign = documents.vectors_TH[generator.integers(0, len(documents.vectors_TH), QUERY_TOKENS - OWN_TOKENS)]
        picked = np.concatenate([own[generator.integers(0, len(own), OWN_TOKENS)], foreign])
        parts.append(unit(picked + 0.15 * generator.standard_normal(picked.shape)))
    return documents, TokenVectors(np.concatenate(parts), np.arange(QUERIES + 1) * QUERY_TOKENS), relevant


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def some_terms(matrix: scipy.sparse.csr_array, terms: int, generator: np.random.Generator) -> scipy.sparse.csr_array:
    """Some terms of each row and a quarter as many of another row, with new weights."""
    rows, own_terms = [], 4 * terms // 5
    for row in range(matrix.shape[0]):
        other = int(generator.integers(0, matrix.shape[0]))
        own, foreign = (matrix.indices[matrix.indptr[n] : matrix.indptr[n + 1]] for n in (row, other))
        rows.append(np.concatenate([generator.choice(own, own_terms), generator.choice(foreign, terms - own_terms)]))
    indices = np.concatenate(rows)
    values = generator.exponential(0.5, len(indices)).astype(np.float32) + 0.01
    result = scipy.sparse.csr_array((values, indices, np.arange(len(rows) + 1) * terms), shape=matrix.shape)
    result.sum_duplicates()
    return result
