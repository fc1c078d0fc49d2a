"""uniCOIL (Lin and Ma 2021, arXiv:2106.14807): COIL with one dimension, a sparse vector over the words of a text.

    w_i = relu(a . h_i + b)                                  for token i
    score(q, d) = sum over query tokens i that d contains of w_i max over equal document tokens j of w_j

Special tokens do not count as words, except that [SEP] can be made one, as in pyserini. The weights of a repeated word
are summed in a query; in a document the largest counts.

Shapes: B texts, L tokens, V vocabulary entries.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint import unicoil
from irexp.model.checkpoint.layout import Layout, Reader
from irexp.model.shared import SharedBiEncoder
from irexp.model.text import is_any_of
from irexp.types import Embeddings, Tokens


class UniCOIL(SharedBiEncoder):
    """A sparse bi-encoder that weights the words of a text."""

    representation = "sparse"
    without_matryoshka_dims: ClassVar[str] = "the dimensions of a lexical vector are words, which have no order"

    layout: ClassVar[Layout] = unicoil
    reads: ClassVar[tuple[Reader, ...]] = (unicoil,)

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "unicoil",
        keep_sep: bool | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Load the encoder; the layer on top is drawn by torch's global generator.

        Args:
            backbone: any encoder.
            name: the model's name in tables and folders.
            keep_sep: whether [SEP] has a weight like any word; None for no.
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.
        """
        super().__init__(
            backbone, backbone.load_encoder(), name=name, query_length=query_length, document_length=document_length
        )
        self.keep_sep = bool(keep_sep)
        self.token_projection = nn.Linear(self.encoder.config.hidden_size, 1)
        nn.init.constant_(self.token_projection.bias, 1.0)  # else relu may start with every weight at zero

    @property
    def embedding_dim(self) -> int:  # type: ignore[override]
        """V."""
        return int(self.encoder.config.vocab_size)

    def encode_queries(self, tokens: Tokens) -> Embeddings:
        """Weights of queries, summed over equal tokens."""
        return self._encode(tokens, "sum")

    def encode_documents(self, tokens: Tokens) -> Embeddings:
        """Weights of documents, the maximum over equal tokens."""
        return self._encode(tokens, "amax")

    def _encode(self, tokens: Tokens, reduce: str) -> Embeddings:
        weight_BL = torch.relu(self.token_projection(self.token_vectors(tokens))).squeeze(-1).float()
        kept = self.tokenizer.sep_token_id if self.keep_sep else None
        special = [token for token in self.tokenizer.all_special_ids if token != kept]
        is_special_BL = is_any_of(tokens.input_ids_BL, special)
        weight_BL = weight_BL.masked_fill(is_special_BL | ~tokens.pooling_mask_BL.bool(), 0.0)
        weight_BV = torch.zeros(len(weight_BL), self.embedding_dim, device=weight_BL.device)
        return Embeddings(weight_BV.scatter_reduce(1, tokens.input_ids_BL, weight_BL, reduce))
