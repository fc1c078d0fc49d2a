"""How sparse the embeddings of a model like SPLADE are, and what a search with them costs.

Shapes: Q queries, N documents, V vocabulary entries.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from irexp.index.vectors import Vectors


def sparsity(query_QV: Vectors, document_NV: Vectors) -> dict[str, float]:
    """The mean number of terms per query and per document, and FLOPS; empty unless both are sparse.

        FLOPS = sum over terms v of  (share of queries with v) * (share of documents with v)

    which is the mean number of multiplications per pair of a query and a document in an inverted index. A term is an
    entry that is not zero. Source: Formal et al. 2021, arXiv:2107.05720, section 4.
    """
    if not isinstance(query_QV, scipy.sparse.csr_array) or not isinstance(document_NV, scipy.sparse.csr_array):
        return {}
    query_share_V, document_share_V = (_share(vectors) for vectors in (query_QV, document_NV))
    return {
        "query_terms": float(query_share_V.sum()),
        "document_terms": float(document_share_V.sum()),
        "FLOPS": float(query_share_V @ document_share_V),
    }


def _share(vectors: scipy.sparse.csr_array) -> NDArray[np.float64]:
    """The share of the rows in which each column is not zero."""
    count_V = np.bincount(vectors.indices[vectors.data != 0], minlength=vectors.shape[1])
    return count_V / vectors.shape[0]
