"""Exact search over sparse vectors: an inverted index, evaluated term at a time.

    s(q, d) = sum over terms t of q of q_t * d_t

Documents are in blocks of 65,536, so that a posting takes two bytes for the document and four (or one, quantized) for
the weight, and the scores of a block fit into the CPU's cache. Building keeps one block in memory and writes it when it
is full. Source: term-at-a-time evaluation, Turtle and Flood 1995.

Shapes: B queries, N documents, V vocabulary entries, P postings of a block, K results per query.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from irexp.index.growing import GrowingArrays, read_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.prune import prune
from irexp.index.ranges import check_least
from irexp.index.shards import EncodedDocuments
from irexp.index.threads import in_threads
from irexp.index.vectors import Queries, Vectors, dim
from irexp.types import UserError

_BLOCK = 2**16


@dataclass(frozen=True)
class SparseSearch:
    """Search settings.

    Attributes:
        terms: the number of the query's heaviest terms that are used; None for all.
        threshold: the smallest query weight that is used.
    """

    terms: int | None = None
    threshold: float = 0.0


class SparseIndex(StreamedIndex):
    """Scores every document that shares a term with the query; others are not results."""

    takes = "sparse"

    def __init__(
        self,
        weights: Literal["float32", "uint8"] = "float32",
        *,
        terms: int | None = None,
        threshold: float = 0.0,
        search: SparseSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            weights: the precision of document weights; uint8 rounds to 1/255 of each term's largest weight.
            terms: the number of a document's heaviest terms that are kept; None for all.
            threshold: the smallest document weight that is kept.
            search: the search settings.
        """
        self._weights, self._terms, self._threshold = weights, terms, threshold
        self._search = search or SparseSearch()
        check_least(1, {"terms": terms, "search.terms": self._search.terms})
        self._writer: GrowingArrays | None = None
        self._waiting: list[scipy.sparse.csr_array] = []
        self._arrays: dict[str, NDArray[Any]] = {}
        self._terms_V, self._is_signed = 0, False

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return bool(
            settings["weights"] == "float32"
            and settings["terms"] is settings["search"]["terms"] is None
            and settings["threshold"] == settings["search"]["threshold"] == 0
        )

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open a folder, or resume after its last full block."""
        self._writer, self._waiting = GrowingArrays(folder), []
        return self._writer.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, scipy.sparse.csr_array)
        self._waiting.append(prune(vectors, self._terms, self._threshold))
        while sum(part.shape[0] for part in self._waiting) >= _BLOCK:
            together = scipy.sparse.csr_array(scipy.sparse.vstack(self._waiting, format="csr"))
            self._write(together[:_BLOCK])
            self._waiting = [together[_BLOCK:]]

    def finish(self) -> None:
        """Write the last block."""
        assert self._writer is not None
        rest = scipy.sparse.vstack(self._waiting, format="csr") if self._waiting else None
        if rest is not None and rest.shape[0]:
            self._write(scipy.sparse.csr_array(rest))
        self._waiting = []

    def _write(self, block: scipy.sparse.csr_array) -> None:
        """Invert a block: postings by term, in the order of documents."""
        assert self._writer is not None
        by_term = block.tocsc()
        by_term.sort_indices()
        weight_P = by_term.data.astype(np.float32)
        scale_V = np.ones(by_term.shape[1], dtype=np.float32)
        if self._weights == "uint8":
            if (weight_P < 0).any():
                raise UserError("index.weights=uint8 cannot hold negative weights, which this model makes; use float32")
            length_V = np.diff(by_term.indptr)
            largest_V = np.zeros_like(scale_V)
            np.maximum.at(largest_V, np.repeat(np.arange(len(length_V)), length_V), weight_P)
            scale_V = np.where(largest_V > 0, largest_V / 255, 1).astype(np.float32)
            weight_P = np.rint(weight_P / np.repeat(scale_V, length_V)).astype(np.uint8)
        arrays: dict[str, NDArray[Any]] = {
            "documents": by_term.indices.astype(np.uint16),
            "weights": weight_P,
            "scales": scale_V[None],
            "starts": by_term.indptr.astype(np.int64)[None],
            "blocks": np.array([[block.shape[0], by_term.nnz, bool((by_term.data < 0).any())]], dtype=np.int64),
        }
        self._writer.append(arrays, documents=block.shape[0])

    def load(self, folder: Path) -> None:
        """Memory-map the postings."""
        self._arrays = read_arrays(folder, "index=sparse")
        self._terms_V = self._arrays["starts"].shape[1] - 1
        self._is_signed = bool(self._arrays["blocks"][:, 2].any())

    def __len__(self) -> int:
        return int(self._arrays["blocks"][:, 0].sum()) if self._arrays else 0

    def postings(self, term: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows of the documents that have a term, in order, and the term's weights."""
        rows, weights = [], []
        first_row = first_posting = 0
        for number, (documents, postings, _) in enumerate(self._arrays["blocks"].tolist()):
            starts = self._arrays["starts"][number]
            inside = slice(first_posting + int(starts[term]), first_posting + int(starts[term + 1]))
            rows.append(self._arrays["documents"][inside].astype(np.int64) + first_row)
            weights.append(self._arrays["weights"][inside].astype(np.float32) * self._arrays["scales"][number][term])
            first_row, first_posting = first_row + documents, first_posting + postings
        return np.concatenate(rows), np.concatenate(weights)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query."""
        assert isinstance(queries, scipy.sparse.csr_array)
        check_dim(dim(queries), self._terms_V)
        depth = min(depth, len(self))
        pruned = prune(queries, self._search.terms, self._search.threshold)
        rows = [slice(start, end) for start, end in itertools.pairwise(pruned.indptr.tolist())]
        term_T, value_T = pruned.indices.astype(np.int32, copy=False), pruned.data.astype(np.float32, copy=False)
        found = list(in_threads(lambda row: self._search_one(term_T[row], value_T[row], depth), rows))
        return np.stack([scores for scores, _ in found]), np.stack([rows for _, rows in found])

    def _search_one(self, term_Q: NDArray[np.int32], value_Q: NDArray[np.float32], depth: int) -> tuple[Scores, Rows]:
        from irexp.index.sparse_kernels import search_blocks

        if self._is_signed or value_Q.min(initial=0) < 0:
            return self._search_signed(term_Q, value_Q, depth)
        best_K, row_K = np.full(depth, -np.inf, np.float32), np.full(depth, -1, np.int64)
        scratch_n = np.zeros(min(_BLOCK, len(self)), dtype=np.float32)
        postings = [self._arrays[name] for name in ("blocks", "documents", "weights", "scales", "starts")]
        search_blocks(*postings, term_Q, value_Q, scratch_n, best_K, row_K)  # type: ignore[call-arg]
        order_K = np.lexsort((row_K, -best_K))
        return best_K[order_K], row_K[order_K]

    def _search_signed(
        self, term_Q: NDArray[np.int32], value_Q: NDArray[np.float32], depth: int
    ) -> tuple[Scores, Rows]:
        """Search with negative weights, where a score of zero or below may be a result."""
        from irexp.index.sparse_kernels import score_block

        parts = []
        first_row = first_posting = 0
        for number, (documents, postings, _) in enumerate(self._arrays["blocks"].tolist()):
            inside = slice(first_posting, first_posting + postings)
            posting_docs, starts = self._arrays["documents"][inside], self._arrays["starts"][number]
            score_n, is_found_n = np.zeros(documents, np.float32), np.zeros(documents, np.bool_)
            scaled_Q = value_Q * self._arrays["scales"][number][term_Q]
            weights = self._arrays["weights"][inside]
            score_block(score_n, is_found_n, posting_docs, weights, starts, term_Q, scaled_Q)
            (rows,) = np.nonzero(is_found_n)
            parts.append((score_n[rows], rows + first_row))
            first_row, first_posting = first_row + documents, first_posting + postings
        scores, rows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.lexsort((rows, -scores))[:depth]
        best_K, row_K = np.full(depth, -np.inf, np.float32), np.full(depth, -1, np.int64)
        best_K[: len(order)], row_K[: len(order)] = scores[order], rows[order]
        return best_K, row_K
