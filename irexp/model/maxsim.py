"""Differentiable MaxSim of every query with every document of a batch.

    s(q, d) = sum over query tokens i of max over document tokens j of q_i . d_j

Shapes: B queries, Q tokens of a query, N documents, L tokens of a document, H dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from irexp.model.pooling import without_masked
from irexp.types import TokenEmbeddings

#: Products of token vectors held in memory together: 134 MB in fp32.
BLOCK_VALUES = 2**25


def maxsim(query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
    """score_BN, in fp32.

    One matrix product of (B Q, H) with (H, N L). Its B Q N L results are kept for the gradient, and memory peaks at
    three times their size: 134 MB and 445 MiB for 32 queries of 32 tokens and 128 documents of 256 tokens
    (tests/benchmark/memory.py). More are computed in blocks, see `in_blocks`.
    """
    most = max(1, BLOCK_VALUES // query.mask_BL.shape[1] // document.mask_BL.shape[1])  # pairs of texts per block
    documents = document.mask_BL.shape[0]
    width = min(documents, most)
    score = _exact if query.token_ids_BL is None else _matching
    parts = [_rows(document, start, width) for start in range(0, documents, width)]
    scores = [in_blocks(score, query, part) for part in parts]
    return scores[0] if len(scores) == 1 else torch.cat(scores, dim=1)


def in_blocks(
    score: Callable[[TokenEmbeddings, TokenEmbeddings], Tensor], query: TokenEmbeddings, document: TokenEmbeddings
) -> Tensor:
    """score_BN of all queries with all documents, a few queries at a time if there are many products of token vectors.

    Nothing but the scores of a block is kept: the backward pass computes the products again.
    """
    queries = query.mask_BL.shape[0]
    height = max(1, BLOCK_VALUES // (query.mask_BL.shape[1] * document.mask_BL.numel()))
    if height >= queries:
        return score(query, document)
    starts = range(0, queries, height)
    blocks = [checkpoint(score, _rows(query, start, height), document, use_reentrant=False) for start in starts]
    return torch.cat(blocks)


def _rows(texts: TokenEmbeddings, start: int, count: int) -> TokenEmbeddings:
    """`count` texts, from the text `start` on."""
    if count >= len(texts.mask_BL):
        return texts
    part = slice(start, start + count)
    ids_BL = texts.token_ids_BL
    return TokenEmbeddings(texts.vectors_BLH[part], texts.mask_BL[part], None if ids_BL is None else ids_BL[part])


def _exact(query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
    """score_BN where all tokens are compared."""
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
