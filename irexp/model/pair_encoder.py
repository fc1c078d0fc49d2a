"""The base class of cross-encoders that read `[CLS] query [SEP] document [SEP]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.model.cross_encoder import CrossEncoder, PairIds
from irexp.model.one_encoder import OneEncoder
from irexp.model.text import as_texts, explain_tokenizer_errors

if TYPE_CHECKING:
    from tokenizers import Encoding


class PairEncoder(OneEncoder, CrossEncoder):
    """A cross-encoder with one encoder over both texts.

    Attributes:
        query_prompt: text put in front of every query; empty unless a family sets it.
    """

    query_prompt = ""

    def tokenize_pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[PairIds]:
        """Token ids of `[CLS] query [SEP] document [SEP]`; each distinct text is tokenized once.

        Each text is truncated to its length, on the tokenizer's side; if the pair is still too long for the encoder,
        the longer text is cut further.
        """
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        queries, documents = as_texts(queries, "queries"), as_texts(documents, "documents")
        query_of = self._encoded([self.query_prompt + query for query in queries], self.query_length)
        document_of = self._encoded(documents, self.document_length)
        pairs = []
        for query, document in zip(queries, documents, strict=True):
            query = self.query_prompt + query
            (first, first_whole), (second, second_whole) = query_of[query], document_of[document]
            lengths = shares(len(first.ids), len(second.ids), self.room, is_first_longer=first_whole > second_whole)
            first, second = self._cut(query, first, lengths[0]), self._cut(document, second, lengths[1])
            with explain_tokenizer_errors(self.tokenizer, ()):
                pair = backend.post_process(first, second, add_special_tokens=True)
            pairs.append(PairIds(pair.ids, pair.type_ids if self._has_types else None))
        return pairs

    def _cut(self, text: str, encoding: Encoding, length: int) -> Encoding:
        """A text's encoding, truncated to a length; a copy, since other pairs use the original."""
        if len(encoding.ids) <= length:
            return encoding
        shorter: Encoding
        (shorter,) = self.tokenizer.backend_tokenizer.encode_batch([text], add_special_tokens=False)
        shorter.truncate(length, direction=self.tokenizer.truncation_side)
        return shorter

    @property
    def room(self) -> int:
        """The maximum number of tokens of both texts together, special tokens excluded."""
        return (self.longest or 10**9) - self.tokenizer.num_special_tokens_to_add(pair=True)

    @property
    def _has_types(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names

    def _encoded(self, texts: Sequence[str], length: int) -> dict[str, tuple[Encoding, int]]:
        """The encoding of each distinct text, truncated to a length, and its number of tokens before."""
        distinct = list(dict.fromkeys(texts))
        with explain_tokenizer_errors(self.tokenizer, distinct):
            encoded = self.tokenizer.backend_tokenizer.encode_batch(distinct, add_special_tokens=False)
        lengths = [len(encoding.ids) for encoding in encoded]
        for encoding in encoded:
            encoding.truncate(length, direction=self.tokenizer.truncation_side)
        return dict(zip(distinct, zip(encoded, lengths, strict=True), strict=True))


def shares(first: int, second: int, room: int, *, is_first_longer: bool = False) -> tuple[int, int]:
    """The lengths of two texts after truncation to a total: the longer is cut to the shorter's length, then both.

    Args:
        first: the length of the first text.
        second: the length of the second text.
        room: the total.
        is_first_longer: whether the odd token of two equal lengths is the first's, since it was longer before.

    Examples:
        >>> shares(3, 9, 10), shares(3, 9, 5), shares(3, 9, 20), shares(9, 9, 5, is_first_longer=True)
        ((3, 7), (2, 3), (3, 9), (3, 2))
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    is_second_longer = first < second or (first == second and not is_first_longer)
    return (shorter, room - shorter) if is_second_longer else (room - shorter, shorter)
