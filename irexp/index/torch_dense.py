"""Exact dense search in torch, block by block, on the CPU or a GPU.

The best scores of a block are found in two steps: the maximum of every 64 neighbours, then the best scores within the
best neighbourhoods, which is exact and reads the scores once. With bfloat16 the comparison takes a third of the time,
and the best candidates are then scored exactly in fp32.

Shapes: B queries, N documents, n documents of a block, H dimensions, K results per query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irexp.index.growing import GrowingArrays, read_arrays
from irexp.index.index import Rows, Scores, StreamedIndex, check_dim
from irexp.index.ranges import check_least
from irexp.index.rescore import MARGIN, count_candidates, rescore
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Queries, Vectors, dim

#: Documents of a block: 8 MB of scores for 64 queries.
_BLOCK = 32768

_NEIGHBOURS = 64


@dataclass(frozen=True)
class TorchDenseSearch:
    """Search settings.

    Attributes:
        candidates: the number of documents that are scored again in fp32, if precision is bfloat16.
    """

    candidates: int = 100


class TorchDense(StreamedIndex):
    """Compares every query with every document."""

    takes = "dense"

    def __init__(
        self, precision: Literal["float32", "bfloat16"] = "float32", *, search: TorchDenseSearch | None = None
    ) -> None:
        """An empty index.

        Args:
            precision: of the comparison; with bfloat16 the vectors are stored in both precisions.
            search: the search settings.
        """
        self._precision, self._search = precision, search or TorchDenseSearch()
        check_least(1, {"search.candidates": self._search.candidates})
        self._writer: GrowingArrays | None = None
        self._dtype = np.dtype(np.float32)
        self._vector_NH: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._coarse_NH = torch.empty(0)

    @classmethod
    def is_exact(cls, settings: Mapping[str, Any]) -> bool:
        """See `Index`."""
        return bool(settings["precision"] == "float32")

    def begin(self, encoding: EncodedDocuments, folder: Path) -> int:
        """Open or resume a folder; vectors keep the precision of the encoding."""
        self._writer, self._dtype = GrowingArrays(folder), encoding.dtype
        return self._writer.finished

    def add(self, vectors: Vectors) -> None:
        """Add a batch of document vectors."""
        assert isinstance(vectors, np.ndarray) and self._writer is not None
        arrays = {"vectors": vectors.astype(self._dtype)}
        if self._precision == "bfloat16":
            arrays["bfloat16"] = torch.from_numpy(vectors).bfloat16().view(torch.int16).numpy()
        self._writer.append(arrays, documents=len(vectors))

    def finish(self) -> None:
        """Do nothing; `add` has written everything."""

    def load(self, folder: Path) -> None:
        """Memory-map the vectors."""
        arrays = read_arrays(folder, "index=torch_dense")
        self._vector_NH = arrays["vectors"]
        coarse = as_tensor(arrays["bfloat16"]).view(torch.bfloat16) if "bfloat16" in arrays else None
        self._coarse_NH = as_tensor(self._vector_NH) if coarse is None else coarse

    def to(self, device: torch.device) -> None:
        """Copy the compared vectors to a GPU; without one they stay memory-mapped."""
        if device.type != "cpu":
            self._coarse_NH = self._coarse_NH.to(device)

    def __len__(self) -> int:
        return len(self._vector_NH)

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query."""
        assert isinstance(queries, np.ndarray)
        check_dim(dim(queries), dim(self._vector_NH))
        depth = min(depth, len(self))
        candidates = self._search.candidates if self._coarse_NH.dtype == torch.bfloat16 else 0
        wanted = count_candidates(max(candidates, depth + MARGIN), depth, self._vector_NH)
        _, row_BC = best_products(torch.from_numpy(queries), self._coarse_NH, wanted)
        return rescore(queries, row_BC.cpu().numpy(), self._vector_NH, depth)


def best_products(query_BH: Tensor, vector_NH: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """The largest `depth` inner products of each query and their rows, best first."""
    lower = torch.bfloat16 if vector_NH.dtype == torch.bfloat16 else torch.float32
    query_BH = query_BH.to(vector_NH.device, lower)
    best_BK = torch.empty(len(query_BH), 0, device=vector_NH.device)
    row_BK = torch.empty(len(query_BH), 0, dtype=torch.int64, device=vector_NH.device)
    for start in range(0, len(vector_NH), _BLOCK):
        block_nH = vector_NH[start : start + _BLOCK].to(lower)
        score_Bk, place_Bk = _best(query_BH @ block_nH.T, depth)
        best_BK, row_BK = torch.cat([best_BK, score_Bk.float()], 1), torch.cat([row_BK, place_Bk + start], 1)
        if best_BK.shape[1] > depth:
            best_BK, kept_BK = best_BK.topk(depth)
            row_BK = row_BK.gather(1, kept_BK)
    best_BK, order_BK = best_BK.sort(dim=1, descending=True, stable=True)
    return best_BK, row_BK.gather(1, order_BK)


def _best(score_Bn: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """The best scores of a block: only neighbourhoods with the largest maxima can contain them."""
    count = score_Bn.shape[1]
    whole = count // _NEIGHBOURS * _NEIGHBOURS
    if whole <= 2 * depth * _NEIGHBOURS:
        return score_Bn.topk(min(depth, count))
    near_Bmw = score_Bn[:, :whole].reshape(len(score_Bn), -1, _NEIGHBOURS)
    hood_BK = near_Bmw.amax(dim=2).topk(depth).indices
    inside_BKw = near_Bmw.gather(1, hood_BK[:, :, None].expand(-1, -1, _NEIGHBOURS))
    place_BKw = hood_BK[:, :, None] * _NEIGHBOURS + torch.arange(_NEIGHBOURS, device=score_Bn.device)
    rest_n = torch.arange(whole, count, device=score_Bn.device).expand(len(score_Bn), -1)
    all_scores = torch.cat([inside_BKw.flatten(1), score_Bn[:, whole:]], 1)
    score_BK, kept_BK = all_scores.topk(depth)
    return score_BK, torch.cat([place_BKw.flatten(1), rest_n], 1).gather(1, kept_BK)


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """A tensor that shares a read-only memory map; it must not be written to."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
