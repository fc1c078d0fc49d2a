"""Exact search over token vectors: MaxSim with every document, in torch, on the CPU or a GPU.

    s(q, d) = sum over query tokens i of max over document tokens j of q_i . d_j

Documents are sorted by their number of tokens, so that a block is one matrix product and one maximum without padding.
With bfloat16 it takes about half the time, and the best candidates are then scored exactly in fp32. Either way the last
bits of a score depend on the batch, since sums in a fixed order would take ten times as long.
Source: Khattab and Zaharia 2020, arXiv:2004.12832.

Shapes: B queries, Q tokens of all queries, N documents, n documents of a block, L tokens of each, T tokens of
all documents, H dimensions, K results per query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from irexp.index.growing import GrowingArrays, clear_arrays, read_arrays, remove_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import as_rows, count_candidates, merge, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.token_store import TokenStore, read_tokens
from irexp.index.torch_dense import as_tensor
from irexp.index.vectors import Queries, TokenVectors, Vectors, count, dim, empty, take

#: Token vectors of a block, and query tokens that are compared with it together: 16 MB of scores, for a processor's
#: cache, or 1 GB on a GPU, which waits for the start of each operation.
_BLOCK_TOKENS, _BLOCK_TOKENS_ON_GPU = 2**13, 2**17
_QUERY_TOKENS, _QUERY_TOKENS_ON_GPU = 2**9, 2**11

#: Documents whose scores are collected before the best are selected, and vectors that are sorted together.
_HELD = 2**16
_COPIED = 2**18


@dataclass(frozen=True)
class MaxSimSearch:
    """Search settings.

    Attributes:
        candidates: the number of documents that are scored again in fp32, if precision is bfloat16.
    """

    candidates: int = 100


class MaxSim(StreamedIndex):
    """Compares every query token with every document token."""

    takes = "tokens"

    def __init__(
        self,
        precision: Literal["float32", "bfloat16"] = "float32",
        *,
        pool_factor: int = 1,
        search: MaxSimSearch | None = None,
    ) -> None:
        """An empty index.

        Args:
            precision: of the comparison; with bfloat16 the vectors are stored in both precisions.
            pool_factor: how many vectors of a document are replaced by one, on average.
            search: the search settings.
        """
        self._precision, self._factor, self._search = precision, pool_factor, search or MaxSimSearch()
        check_least(1, {"pool_factor": pool_factor, "search.candidates": self._search.candidates})
        self._folder: Path | None = None
        self._store: TokenStore | None = None
        self._tokens = TokenVectors(np.empty((0, 0), np.float32), np.zeros(1, np.int64))
        self._compared_TH = torch.empty(0)
        self._row_N = np.empty(0, dtype=np.int64)
        self._groups: list[tuple[int, int, int]] = []

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return bool(settings["precision"] == "float32" and settings["pool_factor"] == 1)

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open or resume a folder of unsorted vectors."""
        self._folder = folder
        (folder / "unsorted").mkdir(exist_ok=True)
        self._store = TokenStore(folder / "unsorted", encoding, factor=self._factor)
        return self._store.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert self._store is not None
        self._store.append(self._store.pooled(vectors))

    def finish(self) -> None:
        """Sort the documents by their lengths."""
        assert self._store is not None and self._folder is not None
        unsorted = read_tokens(self._folder / "unsorted", "index=maxsim")
        length_N = np.diff(unsorted.starts_N1)
        row_N = np.argsort(length_N, kind="stable")
        clear_arrays(self._folder)  # left by a killed process, or of fewer documents
        writer = GrowingArrays(self._folder)
        step = max(1, _COPIED * len(row_N) // max(1, int(length_N.sum())))
        for start in range(0, len(row_N), step):
            rows = row_N[start : start + step]
            part = take(unsorted, rows)
            assert isinstance(part, TokenVectors)
            arrays = {"vectors": part.vectors_TH, "lengths": length_N[rows].astype(np.int32), "rows": rows}
            if self._precision == "bfloat16":
                arrays["bfloat16"] = torch.from_numpy(part.vectors_TH).bfloat16().view(torch.int16).numpy()
            writer.append(arrays, documents=len(rows))
        remove_arrays(self._folder / "unsorted")

    def load(self, folder: Path) -> None:
        """Memory-map the vectors."""
        arrays = read_arrays(folder, "index=maxsim")
        self._tokens = read_tokens(folder, "index=maxsim")
        self._row_N = np.asarray(arrays["rows"])
        lengths, firsts = np.unique(np.diff(self._tokens.starts_N1), return_index=True)
        lasts = [*firsts[1:].tolist(), len(self._row_N)]
        self._groups = list(zip(lengths.tolist(), firsts.tolist(), lasts, strict=True))
        coarse = as_tensor(arrays["bfloat16"]).view(torch.bfloat16) if "bfloat16" in arrays else None
        self._compared_TH = as_tensor(arrays["vectors"]) if coarse is None else coarse

    def to(self, device: torch.device) -> None:
        """Copy the compared vectors to a GPU; without one they stay memory-mapped."""
        if device.type != "cpu":
            self._compared_TH = self._compared_TH.to(device)

    def __len__(self) -> int:
        return len(self._row_N)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those with a vector."""
        assert isinstance(queries, TokenVectors)
        check_dim(dim(queries), dim(self._tokens))
        depth = min(depth, len(self))
        is_exact = self._compared_TH.dtype != torch.bfloat16
        wanted = depth if is_exact else count_candidates(self._search.candidates, depth, self._tokens)
        most = _QUERY_TOKENS if self._compared_TH.device.type == "cpu" else _QUERY_TOKENS_ON_GPU
        parts = [self._search_few(part, wanted) for part in _in_small_batches(queries, most)]
        score_BK = np.concatenate([scores for scores, _ in parts])
        place_BK = np.concatenate([places for _, places in parts])
        if not is_exact:
            score_BK, place_BK = rescore(queries, place_BK, self._tokens, depth)
        return score_BK, as_rows(place_BK, self._row_N)

    def _search_few(self, queries: TokenVectors, depth: int) -> tuple[Scores, Rows]:
        """Scores and positions of the best documents, in the index's order of lengths."""
        best = np.empty((count(queries), 0), np.float32), np.empty((count(queries), 0), np.int64)
        held: list[Tensor] = []
        start = size = 0
        for score_nB in self._blocks(queries):
            held.append(score_nB)
            size += len(score_nB)
            if size >= _HELD or start + size == len(self):
                score_Bn = torch.cat(held).T
                found, place = score_Bn.topk(min(depth, size))
                best = merge([best, (found.cpu().numpy(), place.cpu().numpy() + start)], depth)
                held, start, size = [], start + size, 0
        return best[0], np.where(np.isneginf(best[0]), -1, best[1])

    def _blocks(self, queries: TokenVectors) -> Iterator[Tensor]:
        """score_nB of all documents, block by block."""
        device, lower = self._compared_TH.device, torch.float32
        if self._compared_TH.dtype == torch.bfloat16:
            lower = torch.bfloat16
        query_QH = torch.from_numpy(np.ascontiguousarray(queries.vectors_TH)).to(device, lower)
        tokens_B = torch.from_numpy(np.diff(queries.starts_N1)).to(device)
        for length, first, last in self._groups:
            step = max(1, (_BLOCK_TOKENS if device.type == "cpu" else _BLOCK_TOKENS_ON_GPU) // max(1, length))
            for start in range(first, last, step):
                end = min(start + step, last)
                if length == 0:
                    yield torch.full((end - start, count(queries)), -torch.inf, device=device)
                    continue
                inside = slice(int(self._tokens.starts_N1[start]), int(self._tokens.starts_N1[end]))
                product_TQ = self._compared_TH[inside].to(lower) @ query_QH.T
                best_nQ = product_TQ.view(end - start, length, -1).amax(dim=1).float()
                # sums in the order of the tokens; index_add_ on a GPU has no fixed order, nor fixed last bits
                yield torch.segment_reduce(best_nQ.T.contiguous(), "sum", lengths=tokens_B, initial=0.0, unsafe=True).T


def _in_small_batches(queries: TokenVectors, most: int) -> Iterator[TokenVectors]:
    """Queries in batches of at most so many tokens, or of one query."""
    first = 0
    for last in range(1, count(queries) + 1):
        tokens = int(queries.starts_N1[min(last + 1, count(queries))] - queries.starts_N1[first])
        if last == count(queries) or tokens > most:
            part = take(queries, slice(first, last))
            assert isinstance(part, TokenVectors)
            yield part
            first = last
    if not count(queries):
        nothing = empty("tokens", dim(queries))
        assert isinstance(nothing, TokenVectors)
        yield nothing
