"""What every model of one transformer has: its tokenizer, and the lengths that it can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.backbone.backbone import Backbone, check_vocabulary, max_positions
from irexp.model.model import Model
from irexp.model.text import read_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class OneEncoder(Model):
    """A model around one transformer.

    Attributes:
        encoder: the transformer, with a head or without.
        tokenizer: as it was saved.
        longest: the positions that the transformer can read; None if nothing bounds it.
        counts_special_tokens: whether a length counts the special tokens of a text, too.
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
    ) -> None:
        """Take a transformer that was loaded; read its tokenizer.

        Args:
            backbone: where the tokenizer is.
            encoder: the transformer.
            name: what tables and folders call the model.
            query_length: tokens of a query that are read; None for what is usual.
            document_length: tokens of a document, likewise.
            query_tokens: those of a query that the model adds itself.
            document_tokens: those of a document, likewise.

        Raises:
            UserError: if a length exceeds what the transformer can read, or leaves no place for a text.
        """
        super().__init__()
        self.name, self.encoder = name, encoder
        self.tokenizer = backbone.load_tokenizer()
        check_vocabulary(encoder, self.tokenizer)
        self.longest = max_positions(encoder.config, self.tokenizer)
        special = self.tokenizer.num_special_tokens_to_add() if self.counts_special_tokens else 0
        self.query_length = read_length("query", query_length, self.longest, beside=special + query_tokens)
        self.document_length = read_length("document", document_length, self.longest, beside=special + document_tokens)

    def encoders(self) -> dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """The one."""
        return {"backbone": (self.encoder, self.tokenizer)}

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Enlarge the vocabulary by those of some tokens that it lacks; their vectors are drawn at random."""
        vocabulary = self.tokenizer.get_vocab()
        self.new_tokens = tuple(dict.fromkeys(token for token in tokens if token not in vocabulary))
        if self.new_tokens:
            self.tokenizer.add_tokens(list(self.new_tokens))
            self.encoder.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
