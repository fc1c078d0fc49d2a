"""The sparsity of embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from irexp.training.sparsity import sparsity


def test_flops_are_the_mean_number_of_multiplications_per_pair() -> None:
    """Terms are counted, not their weights; each pair multiplies the terms that both have."""
    generator = np.random.default_rng(0)
    query_QV, document_NV = (
        generator.random((count, 9)) * (generator.random((count, 9)) < share) for count, share in ((4, 0.3), (6, 0.6))
    )
    shared = [int(((q != 0) & (d != 0)).sum()) for q in query_QV for d in document_NV]
    stored = scipy.sparse.csr_array(query_QV)
    found = sparsity(stored, scipy.sparse.csr_array(document_NV))
    assert found == {
        "query_terms": pytest.approx((query_QV != 0).sum(axis=1).mean()),
        "document_terms": pytest.approx((document_NV != 0).sum(axis=1).mean()),
        "FLOPS": pytest.approx(np.mean(shared)),
    }
    stored.data[0] = 0.0  # a zero that is stored is not a term
    assert sparsity(stored, scipy.sparse.csr_array(document_NV))["query_terms"] == pytest.approx(
        found["query_terms"] - 1 / 4
    )


def test_dense_vectors_have_no_sparsity() -> None:
    """Nothing is logged for a dense model."""
    dense_QH = np.ones((2, 3), dtype=np.float32)
    assert sparsity(dense_QH, dense_QH) == {}
