"""MVR (Zhang et al. 2022, arXiv:2203.08372): several vectors (views) per document, one per query.

    score(q, d) = max over viewers k of  E_q . E_d,k
    E_d,k: the vector of viewer token k in [CLS] [VIE1] ... [VIEn] d,  E_q: the vector of the viewer in [CLS] [VIE1] q

The contrastive loss uses the best viewer's score; the paper's second loss, which keeps a document's viewers apart, is
loss=contrastive_local. One thing differs from the paper: [CLS] stays in front of the viewers, while there they replace
it.

Shapes: B texts, L tokens, H dimensions, V viewers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irexp.backbone.backbone import Backbone
from irexp.model.bi_encoder import Encoded
from irexp.model.matryoshka import Nested
from irexp.model.shared import SharedBiEncoder
from irexp.model.text import as_texts, tokenize
from irexp.types import TokenEmbeddings, Tokens, UserError


class MVR(SharedBiEncoder, Nested):
    """A bi-encoder with viewer tokens in front of each text and one vector per viewer."""

    representation = "tokens"
    is_normalized = False

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "mvr",
        viewers: int = 8,
        query_length: int | None = None,
        document_length: int | None = None,
        truncate_dim: int | None = None,
        matryoshka_dims: Sequence[int] | None = None,
    ) -> None:
        """Load the encoder and add the viewers to its vocabulary, drawn by torch's global generator.

        Args:
            backbone: any encoder.
            name: the model's name in tables and folders.
            viewers: the number of vectors per document.
            query_length: tokens kept per query, viewer included; None for 32.
            document_length: tokens kept per document, viewers included; None for 256.
            truncate_dim: the number of leading dimensions of a viewer's vector that are kept; None for all.
            matryoshka_dims: numbers of leading dimensions to train as well, see `irexp.model.matryoshka`; None: none.
        """
        if viewers < 1:
            raise UserError(f"model.viewers={viewers}: a document needs at least one")
        super().__init__(
            backbone,
            backbone.load_encoder(),
            name=name,
            query_length=query_length,
            document_length=document_length,
            query_tokens=1,
            document_tokens=viewers,
        )
        self.viewers = viewers
        names = [f"[VIE{number}]" for number in range(1, viewers + 1)]
        self.add_tokens(names)
        vocabulary = self.tokenizer.get_vocab()
        self._viewer_ids = [int(vocabulary[name]) for name in names]
        self.choose_dims(truncate_dim, matryoshka_dims)

    @property
    def whole_dim(self) -> int:
        """The dimensions of a viewer's vector that is not cut."""
        return int(self.encoder.config.hidden_size)

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries, with one viewer after the first token."""
        return self._tokenize(as_texts(texts, "queries"), self._viewer_ids[:1], self.query_length)

    def tokenize_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of documents, with all viewers after the first token."""
        return self._tokenize(as_texts(texts, "documents"), self._viewer_ids, self.document_length)

    def encode_queries(self, tokens: Tokens) -> TokenEmbeddings:
        """The viewer's vector of queries."""
        return self._encode(tokens, 1)

    def encode_documents(self, tokens: Tokens) -> TokenEmbeddings:
        """The viewers' vectors of documents."""
        return self._encode(tokens, self.viewers)

    def viewer_scores(self, query: Encoded, document: Encoded, column_B: Tensor) -> tuple[Tensor, Tensor]:
        """score_BV of each query with each viewer of one document, and a target, NaN where there is no viewer.

        Args:
            query: the viewer's vectors of queries.
            document: the viewers' vectors of documents.
            column_B: the position of each query's document.
        """
        assert isinstance(query, TokenEmbeddings) and isinstance(document, TokenEmbeddings)
        with torch.autocast(self.device.type, enabled=False):
            score_BV = torch.einsum(
                "bh,bvh->bv", query.vectors_BLH[:, 0].float(), document.vectors_BLH[column_B].float()
            )
        return score_BV, torch.zeros_like(score_BV).masked_fill(~document.mask_BL[column_B].bool(), torch.nan)

    def _tokenize(self, texts: Sequence[str], viewer_ids: list[int], length: int) -> list[list[int]]:
        room = length - len(viewer_ids)
        return [[ids[0], *viewer_ids, *ids[1:]] for ids in tokenize(self.tokenizer, texts, room)]

    def _encode(self, tokens: Tokens, viewers: int) -> TokenEmbeddings:
        viewer_slice = slice(1, 1 + viewers)
        vectors_BVH = self.cut(self.token_vectors(tokens)[:, viewer_slice], self.embedding_dim)
        return TokenEmbeddings(vectors_BVH, tokens.attention_mask_BL[:, viewer_slice])
