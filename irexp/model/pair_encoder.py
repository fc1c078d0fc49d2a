"""What cross-encoders that read `[CLS] query [SEP] document [SEP]` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.backbone.backbone import Backbone, max_positions
from irexp.model.cross_encoder import CrossEncoder, PairIds, cut_once
from irexp.model.text import read_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PairEncoder(CrossEncoder):
    """An encoder over both texts."""

    encoder: PreTrainedModel

    def __init__(
        self,
        backbone: Backbone,
        encoder: PreTrainedModel,
        *,
        name: str,
        query_length: int | None,
        document_length: int | None,
    ) -> None:
        """Take an encoder that was loaded; read its tokenizer.

        Raises:
            UserError: if a length exceeds what the encoder can read.
        """
        super().__init__()
        self.name, self.encoder = name, encoder
        self.tokenizer = backbone.load_tokenizer()
        longest = max_positions(encoder.config, self.tokenizer)
        self.query_length = read_length("query", query_length, longest)
        self.document_length = read_length("document", document_length, longest)
        specials = self.tokenizer.num_special_tokens_to_add(pair=True)
        self.max_length = min(self.query_length + self.document_length + specials, longest or 10**9)

    def tokenize_pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[PairIds]:
        """`[CLS] query [SEP] document [SEP]`; the document gets what the query leaves of the length of both."""
        if not documents:
            return []
        encoded = self.tokenizer(
            cut_once(self.tokenizer, queries, self.query_length),
            list(documents),
            truncation="only_second",
            max_length=self.max_length,
            return_attention_mask=False,
            verbose=False,
        )
        type_ids = encoded.get("token_type_ids") or [None] * len(documents)
        return [PairIds(ids, types) for ids, types in zip(encoded["input_ids"], type_ids, strict=True)]
