"""Differentiable MaxSim of every query with every document of a batch.

    s(q, d) = sum over query tokens i of max over document tokens j of q_i . d_j

Shapes: B queries, Q tokens of a query, N documents, L tokens of a document, H dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from irexp.model.pooling import without_masked
from irexp.types import TokenEmbeddings


def maxsim(query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
    """score_BN, in fp32.

    One matrix product of (B Q, H) with (H, N L). Its B Q N L results are kept for the gradient, and memory peaks at
    three times their size: 134 MB and 445 MiB for 32 queries of 32 tokens and 128 documents of 256 tokens
    (tests/benchmark/memory.py).
    """
    if query.token_ids_BL is not None:
        return _matching(query, document)
    present = replace(document, vectors_BLH=without_masked(document.vectors_BLH, document.mask_BL))
    best_BQN = products(query, present).amax(dim=-1)
    return best_BQN.masked_fill(~query.mask_BL.bool()[:, :, None], 0.0).sum(dim=1)


def _matching(query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
    """score_BN where only equal tokens are compared.

    A missing match counts as zero, and so does a negative product, unless the token's id is negative (see COIL).
    """
    assert query.token_ids_BL is not None and document.token_ids_BL is not None
    is_match_BQNL = query.token_ids_BL[:, :, None, None] == document.token_ids_BL[None, None]
    is_match_BQNL = is_match_BQNL & document.mask_BL.bool()[None, None] & query.mask_BL.bool()[:, :, None, None]
    similarity_BQNL = products(query, document).masked_fill(~is_match_BQNL, -torch.inf)
    best_BQN = similarity_BQNL.amax(dim=-1)
    is_word_BQ1 = query.token_ids_BL[:, :, None] >= 0
    floor_BQN = (is_word_BQ1 | best_BQN.isneginf()).to(best_BQN.dtype).log()  # 0 where the minimum is 0, else -inf
    return torch.maximum(best_BQN, floor_BQN).sum(dim=1)


def products(query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
    """similarity_BQNL: the inner product of every query token with every document token."""
    query_QH = query.vectors_BLH.float().flatten(0, 1)
    document_LH = document.vectors_BLH.float().flatten(0, 1)
    return (query_QH @ document_LH.T).view(*query.mask_BL.shape, *document.mask_BL.shape)
