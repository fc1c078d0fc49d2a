"""ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832; v2: Santhanam et al. 2022, arXiv:2112.01488): late interaction.

    score(q, d) = sum over query tokens i of max over document tokens j of  E_q,i . E_d,j
    E_q = normalise(W BERT([CLS] [Q] q_1 ... q_l [SEP] [MASK] ... [MASK]))
    E_d = filter(normalise(W BERT([CLS] [D] d_1 ... d_n [SEP])))       the filter drops punctuation, if anything is left

Shapes: B texts, L tokens, H dimensions of a token vector.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint import lightning_ir, pylate, stanford
from irexp.model.checkpoint.layout import Home, Layout, Reader
from irexp.model.matryoshka import Nested
from irexp.model.projection import Projection
from irexp.model.shared import SharedBiEncoder
from irexp.model.text import as_texts, is_any_of, replace_empty_masks, tokenize
from irexp.types import TokenEmbeddings, Tokens, UserError


class ColBERT(SharedBiEncoder, Nested):
    """One vector per token, compared by MaxSim."""

    representation = "tokens"
    is_normalized = True

    home: ClassVar[Home | None] = Home(
        "PyLate",
        "pylate",
        "models.ColBERT",
        calls=(
            'model.encode(["a query"], is_query=True, prompt_name="query")',
            'model.encode(["a document"], is_query=False, prompt_name="document")',
        ),
    )
    layout: ClassVar[Layout] = pylate
    reads: ClassVar[tuple[Reader, ...]] = (stanford, pylate, lightning_ir.COL)

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "colbert",
        dim: int = 128,
        query_marker: str | None = "[unused0]",
        document_marker: str | None = "[unused1]",
        query_expansion: bool = True,
        attend_to_expansion: bool = False,
        mask_punctuation: bool = True,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        truncate_dim: int | None = None,
        matryoshka_dims: Sequence[int] | None = None,
    ) -> None:
        """Load the encoder; the projection is drawn by torch's global generator.

        Args:
            backbone: any encoder.
            name: the model's name in tables and folders.
            dim: dimensions of a token vector.
            query_marker: the token after a query's [CLS], added to the vocabulary if missing; None for no marker.
            document_marker: the token after a document's [CLS], added to the vocabulary if missing; None for no marker.
            query_expansion: whether queries are padded with [MASK] to their full length; each [MASK] has a vector.
            attend_to_expansion: whether the other tokens attend to these masks.
            mask_punctuation: whether the punctuation of documents is left without vectors.
            query_prompt: text put in front of every query, after its marker.
            document_prompt: text put in front of every document, after its marker.
            query_length: tokens kept per query, marker included; None for 32.
            document_length: tokens kept per document, marker included; None for 256.
            truncate_dim: the number of leading dimensions of a token vector that are kept; None for all.
            matryoshka_dims: numbers of leading dimensions to train as well, see `irexp.model.matryoshka`; None: none.

        Raises:
            UserError: if query expansion is on and the tokenizer has no mask token.
        """
        super().__init__(
            backbone,
            backbone.load_encoder(),
            name=name,
            query_length=query_length,
            document_length=document_length,
            query_tokens=int(query_marker is not None),
            document_tokens=int(document_marker is not None),
            query_prompt=query_prompt,
            document_prompt=document_prompt,
        )
        self.query_marker, self.document_marker = query_marker, document_marker
        self._add_markers()
        if query_expansion and self.tokenizer.mask_token_id is None:
            raise UserError("model.query_expansion=true: the backbone's tokenizer has no mask token; set it to false")
        self.query_expansion, self.attend_to_expansion = query_expansion, attend_to_expansion
        self.skip(string.punctuation if mask_punctuation else ())
        self.projections = nn.ModuleList([Projection(self.encoder.config.hidden_size, dim, bias=False)])
        self.choose_dims(truncate_dim, matryoshka_dims)

    @property
    def whole_dim(self) -> int:
        """The dimensions of a token vector that is not cut."""
        last = self.projections[-1]
        assert isinstance(last, Projection)
        return last.linear.out_features

    def known_settings(self) -> dict[str, Any]:
        """With the dimensions of the projection; those of a checkpoint that was saved after a cut say nothing."""
        known = super().known_settings()
        return known if self.truncate_dim == self.whole_dim else known | {"dim": self.whole_dim}

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries with their marker; `pad` adds the query expansion."""
        texts = [self.query_prompt + text for text in as_texts(texts, "queries")]
        return self._tokenize(texts, self.query_marker, self.query_length)

    def tokenize_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of documents with their marker."""
        texts = [self.document_prompt + text for text in as_texts(texts, "documents")]
        return self._tokenize(texts, self.document_marker, self.document_length)

    def pad(self, token_ids: Sequence[Sequence[int]], *, is_query: bool) -> Tokens:
        """A batch: queries are padded with [MASK], the punctuation of documents is masked out."""
        if is_query and self.query_expansion:
            mask = self.tokenizer.mask_token_id
            filled = [[*ids, *[mask] * (self.query_length - len(ids))] for ids in token_ids]
            tokens = super().pad(filled, is_query=True)
            seen_BL = tokens.attention_mask_BL.clone()
            if not self.attend_to_expansion:
                for row, ids in enumerate(token_ids):
                    seen_BL[row, len(ids) :] = 0
            return replace(tokens, attention_mask_BL=seen_BL)
        tokens = super().pad(token_ids, is_query=is_query)
        if is_query or not self.skipped:
            return tokens
        is_skipped_BL = is_any_of(tokens.input_ids_BL, self._skipped_ids)
        kept_BL = tokens.attention_mask_BL * ~is_skipped_BL
        return replace(tokens, pooling_mask_BL=replace_empty_masks(kept_BL, tokens.attention_mask_BL))

    def encode_queries(self, tokens: Tokens) -> TokenEmbeddings:
        """Vectors of the tokens of queries."""
        return self._encode(tokens)

    def encode_documents(self, tokens: Tokens) -> TokenEmbeddings:
        """Vectors of the tokens of documents."""
        return self._encode(tokens)

    def _encode(self, tokens: Tokens) -> TokenEmbeddings:
        vectors_BLH: Tensor = self.token_vectors(tokens)
        for projection in self.projections:
            vectors_BLH = projection(vectors_BLH)
        return TokenEmbeddings(self.cut(vectors_BLH, self.embedding_dim), tokens.pooling_mask_BL)

    def _tokenize(self, texts: Sequence[str], marker: str | None, length: int) -> list[list[int]]:
        if marker is None:
            return tokenize(self.tokenizer, texts, length)
        marker_id = self._marker_ids[marker]
        return [[ids[0], marker_id, *ids[1:]] for ids in tokenize(self.tokenizer, texts, length - 1)]

    def _add_markers(self) -> None:
        markers = [marker for marker in (self.query_marker, self.document_marker) if marker is not None]
        self.add_tokens(markers)
        vocabulary = self.tokenizer.get_vocab()
        self._marker_ids = {marker: int(vocabulary[marker]) for marker in markers}

    def skip(self, words: Sequence[str]) -> None:
        """Leave some words of documents without vectors; words missing from the vocabulary are ignored, not [UNK]."""
        vocabulary = self.tokenizer.get_vocab()
        self.skipped = [word for word in dict.fromkeys(words) if word in vocabulary]
        self._skipped_ids = [vocabulary[word] for word in self.skipped]
