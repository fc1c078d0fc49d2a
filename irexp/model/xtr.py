"""XTR (Lee et al. 2023, arXiv:2304.01982): ColBERT trained on the tokens that its own token retrieval finds.

    score(q, d) = 1/Z  sum over query tokens i of max over document tokens j of A_ij q_i . d_j       (equation 4)

In training A_ij is 1 if d_j is among the k_train document tokens of the batch nearest to q_i, else 0, and Z is the
number of query tokens for which d has such a token. Outside of training A and Z are 1, which is ColBERT's score: the
paper's Z, the number of query tokens, is the same for all documents of a query and does not change their ranking.

Shapes: B queries, Q tokens of a query, N documents, L tokens of a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from irexp.backbone.backbone import Backbone
from irexp.model.bi_encoder import Encoded
from irexp.model.checkpoint import google_xtr
from irexp.model.checkpoint.layout import Reader
from irexp.model.colbert import ColBERT
from irexp.model.maxsim import in_blocks, products
from irexp.types import TokenEmbeddings, UserError


class XTR(ColBERT):
    """ColBERT without expansion or skipped words, whose training scores use the retrieved tokens only."""

    reads: ClassVar[tuple[Reader, ...]] = (google_xtr,)
    largest_score = 1.0  # a mean of cosines

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "xtr",
        dim: int = 128,
        k_train: int = 256,
        query_marker: str | None = None,
        document_marker: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        truncate_dim: int | None = None,
        matryoshka_dims: Sequence[int] | None = None,
    ) -> None:
        """Load the encoder; the projection is drawn by torch's global generator.

        Args:
            backbone: any encoder; T5's in the paper.
            name: the model's name in tables and folders.
            dim: dimensions of a token vector.
            k_train: document tokens of the batch that each query token retrieves in training; 32 to 320 in the paper.
            query_marker: a token after the first one of each query; None, as in the paper, for no marker.
            document_marker: a token after the first one of each document; None, as in the paper, for no marker.
            query_length: tokens kept per query; None for 32.
            document_length: tokens kept per document; None for 256.
            truncate_dim: the number of leading dimensions of a token vector that are kept; None for all.
            matryoshka_dims: numbers of leading dimensions to train as well, each on the tokens that it retrieves.
        """
        super().__init__(
            backbone,
            name=name,
            dim=dim,
            query_marker=query_marker,
            document_marker=document_marker,
            query_expansion=False,
            mask_punctuation=False,
            query_length=query_length,
            document_length=document_length,
            truncate_dim=truncate_dim,
            matryoshka_dims=matryoshka_dims,
        )
        if k_train < 1:
            raise UserError(f"model.k_train={k_train}: it must be at least 1")
        self.k_train = k_train

    def _compare(self, query: Encoded, document: Encoded) -> Tensor:
        """score_BN of all queries with all documents; in training over the retrieved tokens only."""
        if not self.training:
            return super()._compare(query, document)
        assert isinstance(query, TokenEmbeddings) and isinstance(document, TokenEmbeddings)
        return in_blocks(self._retrieved, query, document)

    def _retrieved(self, query: TokenEmbeddings, document: TokenEmbeddings) -> Tensor:
        """score_BN over the tokens that each query token retrieves among all documents."""
        similarity_BQNL = products(query, document)
        similarity_BQNL = similarity_BQNL.masked_fill(~document.mask_BL.bool()[None, None], -torch.inf)
        flat_BQT = similarity_BQNL.detach().flatten(2)
        least_BQ = flat_BQT.topk(min(self.k_train, flat_BQT.shape[-1]), dim=-1).values[..., -1]
        is_retrieved_BQNL = (similarity_BQNL >= least_BQ[:, :, None, None]) & ~similarity_BQNL.isneginf()
        best_BQN = similarity_BQNL.masked_fill(~is_retrieved_BQNL, -torch.inf).amax(dim=-1)
        counts_BQN = ~best_BQN.isneginf() & query.mask_BL.bool()[:, :, None]
        total_BN = best_BQN.masked_fill(~counts_BQN, 0.0).sum(dim=1)
        return total_BN / counts_BQN.sum(dim=1).clamp(min=1)
