"""What cross-encoders that read `[CLS] query [SEP] document [SEP]` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.backbone.backbone import Backbone, max_positions
from irexp.model.cross_encoder import CrossEncoder, PairIds
from irexp.model.text import read_length

if TYPE_CHECKING:
    from tokenizers import Encoding
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
        self._room = (longest or 10**9) - self.tokenizer.num_special_tokens_to_add(pair=True)

    def tokenize_pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[PairIds]:
        """`[CLS] query [SEP] document [SEP]`, each distinct text tokenized once.

        A document is cut further where the query leaves it fewer positions than its length.
        """
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        query_of = self._encoded(queries, self.query_length)
        document_of = self._encoded(documents, self.document_length)
        pairs = []
        for query, document in zip(queries, documents, strict=True):
            first, second = query_of[query], document_of[document]
            if len(first.ids) + len(second.ids) > self._room:
                (second,) = backend.encode_batch([document], add_special_tokens=False)
                second.truncate(self._room - len(first.ids))
            pair = backend.post_process(first, second, add_special_tokens=True)
            pairs.append(PairIds(pair.ids, pair.type_ids if self._has_types else None))
        return pairs

    @property
    def _has_types(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names

    def _encoded(self, texts: Sequence[str], length: int) -> dict[str, Encoding]:
        distinct = list(dict.fromkeys(texts))
        encoded = self.tokenizer.backend_tokenizer.encode_batch(distinct, add_special_tokens=False)
        for encoding in encoded:
            encoding.truncate(length)
        return dict(zip(distinct, encoded, strict=True))
