"""XTR: documents are scored only by the token vectors that a search over all tokens retrieves.

    s(q, d) = sum over query tokens i of the largest q_i . d_j among the retrieved tokens of d, or m_i if there are none
    m_i = the smallest retrieved score of token i                                                  (imputation: min)

Tokens that were not retrieved cannot score above m_i, which is therefore imputed. Other vectors of a document are not
read. Source: Lee et al. 2023, arXiv:2304.01982, which also divides by the number of query tokens.

Shapes: N documents, T tokens of all documents, Q tokens of all queries, P retrieved tokens, H dimensions, K results per
query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.index import DenseIndex, Rows, Scores, StreamedIndex, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import count_candidates, no_results, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.token_store import TokenStore, read_tokens
from irexp.index.top import top
from irexp.index.vectors import Queries, TokenVectors, Vectors, count, dim

#: Token vectors per batch that are added again after a kill.
_READ = 2**17


@dataclass(frozen=True)
class TokenSearch:
    """Search settings, in addition to those of the token engine.

    Attributes:
        tokens: the number of tokens that are retrieved per query token.
        imputation: replaces a score that was not retrieved: min, or zero.
        rescored: the number of documents that are scored exactly, at least the search depth; 0 for none.
    """

    tokens: int = 1000
    imputation: Literal["min", "zero"] = "min"
    rescored: int = 0


class TokenRetrieval(StreamedIndex):
    """A dense index of all tokens."""

    takes = "tokens"

    def __init__(
        self, engine: DenseIndex, *, pool_factor: int = 1, seed: int = 0, search: TokenSearch | None = None
    ) -> None:
        """An empty index.

        Args:
            engine: the index of the tokens.
            pool_factor: how many vectors of a document are replaced by one, on average.
            seed: of the token index's training sample.
            search: the search settings.
        """
        self._engine, self._factor, self._seed, self._search = engine, pool_factor, seed, search or TokenSearch()
        check_least(1, {"pool_factor": pool_factor, "search.tokens": self._search.tokens})
        check_least(0, {"seed": seed, "search.rescored": self._search.rescored})
        self._store: TokenStore | None = None
        self._tokens = TokenVectors(np.empty((0, 0), np.float32), np.zeros(1, np.int64))
        self._owner_T = np.empty(0, np.int32)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return False

    def check(self, count: int | None, dim: int) -> None:
        """Check the token index; there are at least as many tokens as documents."""
        self._engine.check(count, dim)

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Prepare the token index, and add the tokens that a killed process had stored."""
        self._store = TokenStore(folder, encoding, factor=self._factor)
        store = self._store
        tokens = round(store.tokens_per_document(encoding, seed=self._seed) * len(encoding))
        held = self._engine.prepare(
            max(1, tokens), encoding.dim, lambda size: store.sample(encoding, size, seed=self._seed), folder
        )
        vector_TH = read_tokens(folder, "index=xtr").vectors_TH if store.finished else np.empty((0, encoding.dim))
        for start in range(held, len(vector_TH), _READ):
            self._engine.add(np.asarray(vector_TH[start : start + _READ], np.float32))
        return store.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert self._store is not None
        tokens = self._store.pooled(vectors)
        self._store.append(tokens)
        self._engine.add(tokens.vectors_TH)

    def finish(self) -> None:
        """Write the token index."""
        self._engine.finish()

    def load(self, folder: Path) -> None:
        """Memory-map the token index."""
        self._engine.load(folder)
        self._tokens = read_tokens(folder, "index=xtr")
        self._owner_T = np.repeat(np.arange(count(self._tokens), dtype=np.int32), np.diff(self._tokens.starts_N1))

    def to(self, device: torch.device) -> None:
        """Move the token index to a device, if it can."""
        self._engine.to(device)

    def __len__(self) -> int:
        return count(self._tokens)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those with a retrieved token."""
        assert isinstance(queries, TokenVectors)
        check_dim(dim(queries), dim(self._tokens))
        depth = min(depth, len(self))
        wanted = count_candidates(self._search.rescored, depth, self._tokens)
        found_QP, token_QP = self._engine.find(queries.vectors_TH, self._search.tokens)
        score_BK, row_BK = no_results(count(queries), wanted)
        for number in range(count(queries)):
            inside = slice(int(queries.starts_N1[number]), int(queries.starts_N1[number + 1]))
            scores, rows = self._documents(found_QP[inside], token_QP[inside])
            best = top(scores, wanted)
            score_BK[number, : len(best)], row_BK[number, : len(best)] = scores[best], rows[best]
        if self._search.rescored:
            return rescore(queries, row_BK, self._tokens, depth)
        return score_BK, row_BK

    def _documents(self, found_QP: Scores, token_QP: Rows) -> tuple[Scores, Rows]:
        """The scores and rows of documents, from the tokens that were retrieved for one query."""
        is_found_QP = token_QP >= 0
        missing_Q = np.where(is_found_QP, found_QP, np.inf).min(axis=1, initial=np.inf)
        missing_Q = np.where(np.isinf(missing_Q) | (self._search.imputation == "zero"), 0, missing_Q)
        owner_QP = np.where(is_found_QP, self._owner_T[token_QP], -1)
        rows = np.unique(owner_QP[is_found_QP])
        best_QN: NDArray[np.float32] = np.full((len(found_QP), len(rows)), -np.inf, np.float32)
        which, where = np.nonzero(is_found_QP)
        place = np.searchsorted(rows, owner_QP[which, where])
        np.maximum.at(best_QN, (which, place), found_QP[which, where])
        scores = np.where(np.isneginf(best_QN), missing_Q[:, None], best_QN).sum(axis=0, dtype=np.float32)
        return scores, rows.astype(np.int64)
