"""The base class of models with a single transformer: its tokenizer and its maximum lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.backbone.backbone import Backbone
from irexp.backbone.tokenizer import check_vocabulary, max_positions
from irexp.model.model import Model
from irexp.model.text import read_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class OneEncoder(Model):
    """A model with one transformer.

    Attributes:
        encoder: the transformer, with or without a head.
        tokenizer: the transformer's tokenizer.
        longest: the transformer's maximum number of tokens; None if there is no limit.
        counts_special_tokens: whether the query and document lengths count special tokens, too.
    """

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    longest: int | None
    counts_special_tokens = False

    def __init__(
        self,
        backbone: Backbone,
        encoder: PreTrainedModel,
        *,
        name: str,
        query_length: int | None,
        document_length: int | None,
        query_tokens: int = 0,
        document_tokens: int = 0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> None:
        """Keep a loaded transformer and load its tokenizer.

        Args:
            backbone: the source of the tokenizer.
            encoder: the loaded transformer.
            name: the model's name in tables and folders.
            query_length: tokens kept per query; None for 32, or the transformer's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the transformer's maximum.
            query_tokens: the number of tokens that the model adds to each query.
            document_tokens: the number of tokens that the model adds to each document.
            query_prompt: text put in front of every query, of a family that has such prompts.
            document_prompt: text put in front of every document, of a family that has such prompts.

        Raises:
            UserError: if a length exceeds the transformer's maximum, or leaves no room for a text.
        """
        super().__init__()
        self.name, self.encoder = name, encoder
        self.tokenizer = backbone.load_tokenizer()
        check_vocabulary(encoder, self.tokenizer)
        self.longest = max_positions(encoder.config, self.tokenizer)
        special = self.tokenizer.num_special_tokens_to_add() if self.counts_special_tokens else 0
        extra = {"query": special + query_tokens, "document": special + document_tokens}
        for side, prompt in (("query", query_prompt), ("document", document_prompt)):
            if prompt:
                setattr(self, f"{side}_prompt", prompt)
                extra[side] += len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        self.query_length = read_length("query", query_length, self.longest, extra_tokens=extra["query"])
        self.document_length = read_length("document", document_length, self.longest, extra_tokens=extra["document"])

    def encoders(self) -> dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """The only transformer and its tokenizer."""
        return {"backbone": (self.encoder, self.tokenizer)}

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Add the tokens that the vocabulary lacks; their vectors are drawn at random."""
        vocabulary = self.tokenizer.get_vocab()
        self.new_tokens = tuple(dict.fromkeys(token for token in tokens if token not in vocabulary))
        if self.new_tokens:
            self.tokenizer.add_tokens(list(self.new_tokens))
            self.encoder.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
