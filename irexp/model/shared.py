"""The base class of bi-encoders with one encoder for queries and documents.

Shapes: B texts, L tokens, H dimensions of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.backbone.backbone import without_cache
from irexp.model.bi_encoder import BiEncoder
from irexp.model.one_encoder import OneEncoder
from irexp.model.text import as_texts, pad, tokenize
from irexp.types import Tokens

if TYPE_CHECKING:
    from torch import Tensor


class SharedBiEncoder(OneEncoder, BiEncoder):
    """A bi-encoder with one tokenizer and one encoder.

    Attributes:
        query_prompt: text put in front of every query; empty unless a family sets it.
        document_prompt: text put in front of every document; empty unless a family sets it.
    """

    query_prompt = ""
    document_prompt = ""

    counts_special_tokens = True

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries."""
        texts = [self.query_prompt + text for text in as_texts(texts, "queries")]
        return tokenize(self.tokenizer, texts, self.query_length)

    def tokenize_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of documents."""
        texts = [self.document_prompt + text for text in as_texts(texts, "documents")]
        return tokenize(self.tokenizer, texts, self.document_length)

    def pad(self, token_ids: Sequence[Sequence[int]], *, is_query: bool) -> Tokens:
        """A batch, padded on the right."""
        return pad(token_ids, self.tokenizer.pad_token_id)

    def token_vectors(self, tokens: Tokens) -> Tensor:
        """The encoder's last layer, vector_BLH, in fp32 as the layers on top of it."""
        more = without_cache(self.encoder)
        output = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=tokens.attention_mask_BL, **more)
        return output.last_hidden_state.float()  # type: ignore[no-any-return]
