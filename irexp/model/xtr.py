"""XTR (Lee et al. 2023, arXiv:2304.01982): ColBERT trained on the tokens that its own retrieval would find.

    score(q, d) = 1/Z  sum over query tokens i of max over document tokens j of A_ij q_i . d_j       (equation 4)

In training A_ij is 1 where d_j is among the k_train tokens of all the batch's documents that are nearest to q_i, and Z
the number of query tokens for which d has such a token. Elsewhere A and Z are 1, ColBERT's score: the paper's Z, the
number of query tokens, is the same for all documents of a query and changes no ranking.

Shapes: B queries, Q tokens of a query, N documents, L tokens of a document.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from irexp.backbone.backbone import Backbone
from irexp.model.bi_encoder import Encoded
from irexp.model.checkpoint import google_xtr
from irexp.model.checkpoint.layout import Reader
from irexp.model.colbert import ColBERT
from irexp.model.maxsim import products
from irexp.types import TokenEmbeddings, UserError


class XTR(ColBERT):
    """ColBERT without masks, and with the score of the retrieved tokens in training."""

    reads: ClassVar[tuple[Reader, ...]] = (google_xtr,)

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
    ) -> None:
        """Load the encoder; the projection is drawn by torch's global generator.

        Args:
            backbone: any encoder; the paper's is T5's.
            name: what tables and folders call the model.
            dim: dimensions of a token vector.
            k_train: document tokens of a batch that a query token retrieves in training; the paper tries 32 to 320.
            query_marker: the token behind the first one of a query; None for none, as in the paper.
            document_marker: the token behind the first one of a document, likewise.
            query_length: tokens of a query that are read; None for 32.
            document_length: tokens of a document; None for 256.
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
        )
        if k_train < 1:
            raise UserError(f"model.k_train={k_train}: at least one token is retrieved")
        self.k_train = k_train

    def similarity(self, query: Encoded, document: Encoded) -> list[Tensor]:
        """score_BN of all queries with all documents; over the retrieved tokens while training."""
        if not self.training:
            return super().similarity(query, document)
        assert isinstance(query, TokenEmbeddings) and isinstance(document, TokenEmbeddings)
        with torch.autocast(self.device.type, enabled=False):
            similarity_BQNL = products(query, document)
            similarity_BQNL = similarity_BQNL.masked_fill(~document.mask_BL.bool()[None, None], -torch.inf)
            flat_BQT = similarity_BQNL.detach().flatten(2)
            least_BQ = flat_BQT.topk(min(self.k_train, flat_BQT.shape[-1]), dim=-1).values[..., -1]
            is_retrieved_BQNL = (similarity_BQNL >= least_BQ[:, :, None, None]) & ~similarity_BQNL.isneginf()
            best_BQN = similarity_BQNL.masked_fill(~is_retrieved_BQNL, -torch.inf).amax(dim=-1)
            counts_BQN = ~best_BQN.isneginf() & query.mask_BL.bool()[:, :, None]
            total_BN = best_BQN.masked_fill(~counts_BQN, 0.0).sum(dim=1)
            return [total_BN / counts_BQN.sum(dim=1).clamp(min=1)]
