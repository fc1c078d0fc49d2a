"""Memory and seconds of a training step's two largest parts, compared with straightforward versions.

    python tests/benchmark/memory.py

SPLADE's maximum over all tokens, forwards and backwards, against all logits at once; in-batch MaxSim against one pair
at a time. Each runs in its own process; the log shows its peak memory beyond its inputs and its seconds, as medians.
"""

from __future__ import annotations

import logging
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from irexp.model.max_logits import max_logits
from irexp.model.maxsim import maxsim
from irexp.types import TokenEmbeddings

log = logging.getLogger(__name__)

_ROUNDS = 5

#: Texts, tokens, hidden dimensions, vocabulary: a batch of BERT base whose texts are a quarter full to full.
_SPLADE = (16, 256, 768, 30_522)

#: Queries, their tokens, documents, their tokens, dimensions.
_MAXSIM = (32, 32, 128, 256, 128)


def splade_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weights, a bias that leaves about 1 % of the words active, and the mask."""
    torch.manual_seed(0)
    texts, tokens, hidden, vocabulary = _SPLADE
    lengths = torch.linspace(tokens // 4, tokens, texts).long()
    mask_BL = (torch.arange(tokens) < lengths[:, None]).long()
    weight_VH = torch.randn(vocabulary, hidden) / hidden**0.5
    states = torch.randn(texts, tokens, hidden)
    return states.requires_grad_(), weight_VH.requires_grad_(), torch.full((vocabulary,), -4.5), mask_BL


def chunked(hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor, mask_BL: Tensor) -> Tensor:
    """The maximum in chunks, as irexp computes it."""
    return max_logits(hidden_BLH, weight_VH, bias_V, mask_BL)


def unchunked(hidden_BLH: Tensor, weight_VH: Tensor, bias_V: Tensor, mask_BL: Tensor) -> Tensor:
    """The maximum over a tensor of all logits."""
    logit_BLV = hidden_BLH @ weight_VH.T + bias_V
    return logit_BLV.masked_fill(~mask_BL.bool()[:, :, None], -torch.inf).amax(dim=1)


def maxsim_inputs() -> tuple[TokenEmbeddings, TokenEmbeddings]:
    """Embeddings of both sides, all tokens present."""
    torch.manual_seed(0)
    queries, query_tokens, documents, tokens, dim = _MAXSIM
    return (
        TokenEmbeddings(torch.randn(queries, query_tokens, dim).requires_grad_(), torch.ones(queries, query_tokens)),
        TokenEmbeddings(torch.randn(documents, tokens, dim).requires_grad_(), torch.ones(documents, tokens)),
    )


def pair_by_pair(query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
    """Each query with each document on its own."""
    rows = [
        torch.stack([(q @ d.T).amax(dim=1).sum() for d in document.vectors_BLH.unbind()])
        for q in query.vectors_BLH.unbind()
    ]
    return torch.stack(rows)


PARTS: dict[str, tuple[Callable[[], tuple[object, ...]], Callable[..., Tensor]]] = {
    "SPLADE maximum, in chunks": (splade_inputs, chunked),
    "SPLADE maximum, all logits at once": (splade_inputs, unchunked),
    "MaxSim, one product": (maxsim_inputs, maxsim),
    "MaxSim, pair by pair": (maxsim_inputs, pair_by_pair),
}


def measure(name: str) -> tuple[float, float]:
    """The peak memory of this process beyond the inputs, in mebibytes, and its seconds."""
    torch.set_num_threads(1)
    make, score = PARTS[name]
    inputs = make()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024
    start = time.perf_counter()
    torch.autograd.backward(torch.log1p(torch.relu(score(*inputs))).sum())
    seconds = time.perf_counter() - start
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, seconds


def main() -> None:
    """Measure in turns and log the medians."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PARTS}
    for _ in range(_ROUNDS):
        for name, values in found.items():
            done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
            mebibytes, seconds = map(float, done.stdout.split())
            values.append((mebibytes, seconds))
    for name, values in found.items():
        mebibytes, seconds = (statistics.median(column) for column in zip(*values, strict=True))
        log.info("%-36s %8.0f MiB %8.2f s", name, mebibytes, seconds)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write("{} {}\n".format(*measure(sys.argv[1])))
    else:
        main()
