"""MUVERA: one fixed-size vector that approximates a text's token vectors under MaxSim, for search by a dense engine.

    bucket(v) = the signs of v's products with k random vectors: 2^k buckets, drawn separately for each of R repetitions
    query block b = sum of the query's vectors in b
    document block b = mean of the document's vectors in b; if there are none, the vector whose signs are closest to b
    F = all blocks, each projected to P dimensions by random signs / sqrt(P);  F(q) . F(d) / R ~ MaxSim(q, d)

The best documents of the dense search are scored by MaxSim. Source: Dhulipala et al. 2024, arXiv:2405.19504.

Shapes: N documents, n documents with a vector, T tokens of a batch, H dimensions, R repetitions, A buckets,
P dimensions of a block, F = R A P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irexp.index.index import DenseIndex, Rows, Scores, StreamedIndex, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import as_rows, count_candidates, merge, no_results, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.token_store import TokenStore, read_tokens
from irexp.index.vectors import Queries, TokenVectors, Vectors, count, dim, take
from irexp.types import UserError

#: Values of fixed-size vectors that are computed together.
_VALUES = 2**25


@dataclass(frozen=True)
class MuveraSearch:
    """Search settings, in addition to those of the dense engine.

    Attributes:
        rescored: the number of documents that are scored by MaxSim, at least the search depth; 0 for none.
    """

    rescored: int = 1000


class Muvera(StreamedIndex):
    """A dense index of one fixed-size vector per document, and the token vectors."""

    takes = "tokens"

    def __init__(
        self,
        engine: DenseIndex,
        *,
        repetitions: int = 20,
        signs: int = 4,
        block_dim: int = 16,
        pool_factor: int = 1,
        seed: int = 0,
        search: MuveraSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            engine: the index of the fixed-size vectors, which have repetitions * 2^signs * block_dim dimensions.
            repetitions: R.
            signs: k, the number of random vectors whose signs define a bucket.
            block_dim: P; at least the dimensions of the token vectors for no projection.
            pool_factor: how many vectors of a document are replaced by one, on average.
            seed: of the random vectors and of the dense index's training sample.
            search: the search settings.
        """
        if repetitions < 1 or not 0 <= signs <= 12 or block_dim < 1:
            raise UserError(
                f"index.repetitions={repetitions} and index.block_dim={block_dim} must be at least 1, and "
                f"index.signs={signs} from 0 to 12"
            )
        self._engine, self._repetitions, self._signs, self._block_dim = engine, repetitions, signs, block_dim
        self._factor, self._seed, self._search = pool_factor, seed, search or MuveraSearch()
        check_least(1, {"pool_factor": pool_factor})
        check_least(0, {"seed": seed, "search.rescored": self._search.rescored})
        self._store: TokenStore | None = None
        self._tokens = TokenVectors(np.empty((0, 0), np.float32), np.zeros(1, np.int64))
        self._row_n = np.empty(0, np.int64)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return False

    def check(self, count: int | None, dim: int) -> None:
        """Check the dense index."""
        self._engine.check(count, self._long_dim(dim))

    def _long_dim(self, dim: int) -> int:
        return int(self._repetitions * 2**self._signs * min(dim, self._block_dim))

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Prepare the dense index, and add the documents that a killed process had stored."""
        self._store = TokenStore(folder, encoding, factor=self._factor)
        store = self._store

        def sample(size: int) -> Vectors:
            return self._long(_with_vectors(store.pooled(encoding.sample(size, seed=self._seed))), is_query=False)

        held = self._engine.prepare(len(encoding), self._long_dim(encoding.dim), sample, folder)
        if store.finished:
            self._add(read_tokens(folder, "index=muvera"), held)
        return store.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert self._store is not None
        tokens = self._store.pooled(vectors)
        self._store.append(tokens)
        self._add(tokens)

    def _add(self, tokens: TokenVectors, held: int = 0) -> None:
        """Add the fixed-size vectors of the documents that have a vector, except the first `held`."""
        row_N = np.flatnonzero(np.diff(tokens.starts_N1))[held:]
        step = max(1, _VALUES // self._long_dim(dim(tokens)))
        for start in range(0, len(row_N), step):
            part = take(tokens, row_N[start : start + step])
            assert isinstance(part, TokenVectors)
            self._engine.add(self._long(part, is_query=False))

    def finish(self) -> None:
        """Write the dense index."""
        self._engine.finish()

    def load(self, folder: Path) -> None:
        """Memory-map the dense index and the token vectors."""
        self._engine.load(folder)
        self._tokens = read_tokens(folder, "index=muvera")
        self._row_n = np.flatnonzero(np.diff(self._tokens.starts_N1))

    def to(self, device: torch.device) -> None:
        """Move the dense index to a device, if it can."""
        self._engine.to(device)

    def __len__(self) -> int:
        return count(self._tokens)

    @property
    def most_results(self) -> int:
        """That of the dense index, if it does not return all of its vectors."""
        most = self._engine.most_results
        return min(most, len(self)) if most < len(self._engine) else len(self)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those with a vector."""
        assert isinstance(queries, TokenVectors)
        check_dim(dim(queries), dim(self._tokens))
        depth = min(depth, len(self))
        wanted = count_candidates(self._search.rescored, depth, self._tokens)
        score_BK, place_BK = self._engine.find(self._long(queries, is_query=True), wanted)
        row_BK = as_rows(place_BK, self._row_n)
        if self._search.rescored:
            return rescore(queries, row_BK, self._tokens, depth)
        return merge([(score_BK, row_BK), no_results(count(queries), depth)], depth)

    def _long(self, tokens: TokenVectors, *, is_query: bool) -> NDArray[np.float32]:
        """F, the fixed-size vector of each text."""
        from irexp.index.muvera_kernels import fill_empty, sum_blocks

        generator = np.random.default_rng(self._seed)
        vector_TH = np.ascontiguousarray(tokens.vectors_TH, dtype=np.float32)
        starts_N1 = np.ascontiguousarray(tokens.starts_N1)
        block_dim, buckets = min(dim(tokens), self._block_dim), 2**self._signs
        long_NRAP = np.zeros((count(tokens), self._repetitions, buckets, block_dim), np.float32)
        for repetition in range(self._repetitions):
            sign_HS = generator.standard_normal((dim(tokens), self._signs)).astype(np.float32)
            bucket_T = ((vector_TH @ sign_HS > 0) @ (1 << np.arange(self._signs))).astype(np.int64)
            short_TP: NDArray[np.float32] = vector_TH
            if block_dim < dim(tokens):
                choice_HP = generator.choice(np.array([-1, 1], np.float32), size=(dim(tokens), block_dim))
                short_TP = vector_TH @ (choice_HP / np.sqrt(block_dim)).astype(np.float32)
            block_NAP = long_NRAP[:, repetition]
            count_NA = sum_blocks(block_NAP, short_TP, bucket_T, starts_N1)
            if not is_query:
                block_NAP /= np.maximum(count_NA, 1)[:, :, None]
                fill_empty(block_NAP, short_TP, bucket_T, starts_N1, count_NA)
        if is_query:
            long_NRAP /= self._repetitions
        return long_NRAP.reshape(count(tokens), -1)


def _with_vectors(tokens: TokenVectors) -> TokenVectors:
    """The texts that have a vector."""
    present = take(tokens, np.flatnonzero(np.diff(tokens.starts_N1)))
    assert isinstance(present, TokenVectors)
    return present
