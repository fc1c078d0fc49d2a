"""COIL (Gao, Dai and Callan 2021, arXiv:2104.07186): exact match with contextual token vectors.

    score(q, d) = c_q . c_d + sum over query tokens i that d contains of max(0, m_i)
    m_i = max over document tokens j that equal i of v_i . v_j
    v = A h + a for each token,  c = C h + c for the first token

Special tokens do not count as words. So that one index holds both parts, c is cut into pieces as long as v. Each piece
is stored as a token with a negative id, which no word has: it matches exactly one piece of the other side, and its
product may be negative.

Shapes: B texts, L tokens, H dimensions of a token vector, P pieces of the [CLS] vector.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint import coil
from irexp.model.checkpoint.layout import Layout, Reader
from irexp.model.shared import SharedBiEncoder
from irexp.model.text import is_any_of
from irexp.types import TokenEmbeddings, Tokens, UserError


class COIL(SharedBiEncoder):
    """A token vector per word, compared with equal words only, and one vector for the whole text."""

    representation = "tokens"
    matches_tokens: ClassVar[bool] = True
    without_matryoshka_dims: ClassVar[str] = "the vector of its [CLS] is stored in pieces of token_dim dimensions"

    layout: ClassVar[Layout] = coil
    reads: ClassVar[tuple[Reader, ...]] = (coil,)

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "coil",
        token_dim: int = 32,
        cls_dim: int = 768,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Load the encoder; the two layers on top are drawn by torch's global generator.

        Args:
            backbone: any encoder.
            name: the model's name in tables and folders.
            token_dim: dimensions of a token vector.
            cls_dim: dimensions of the text's vector; 0 for none.
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.
        """
        if token_dim < 1 or cls_dim < 0:
            raise UserError(f"model.token_dim={token_dim}, model.cls_dim={cls_dim}: they must be at least 1 and 0")
        super().__init__(
            backbone, backbone.load_encoder(), name=name, query_length=query_length, document_length=document_length
        )
        hidden = self.encoder.config.hidden_size
        self.embedding_dim = token_dim
        self.token_projection = nn.Linear(hidden, token_dim)
        self.cls_projection = nn.Linear(hidden, cls_dim) if cls_dim else None

    def encode_queries(self, tokens: Tokens) -> TokenEmbeddings:
        """Vectors of the words and pieces of queries."""
        return self._encode(tokens)

    def encode_documents(self, tokens: Tokens) -> TokenEmbeddings:
        """Vectors of the words and pieces of documents."""
        return self._encode(tokens)

    def _encode(self, tokens: Tokens) -> TokenEmbeddings:
        hidden_BLH = self.token_vectors(tokens)
        is_special_BL = is_any_of(tokens.input_ids_BL, self.tokenizer.all_special_ids)
        mask_BL = tokens.pooling_mask_BL.bool() & ~is_special_BL
        vectors_BLH = self.token_projection(hidden_BLH)
        if self.cls_projection is None:
            return TokenEmbeddings(vectors_BLH, mask_BL, tokens.input_ids_BL)
        piece_BPH = self._pieces(self.cls_projection(hidden_BLH[:, 0]))
        ids_BP = (-1 - torch.arange(piece_BPH.shape[1], device=mask_BL.device)).expand(len(mask_BL), -1)
        return TokenEmbeddings(
            torch.cat([piece_BPH, vectors_BLH], dim=1),
            torch.cat([torch.ones_like(ids_BP, dtype=torch.bool), mask_BL], dim=1),
            torch.cat([ids_BP, tokens.input_ids_BL], dim=1),
        )

    def _pieces(self, cls_BC: Tensor) -> Tensor:
        """The text's vector, cut into pieces as long as a token vector; the last piece is padded with zeros."""
        missing = -cls_BC.shape[1] % self.embedding_dim
        filled_BC = pad(cls_BC, (0, missing))
        return filled_BC.view(len(cls_BC), -1, self.embedding_dim)
