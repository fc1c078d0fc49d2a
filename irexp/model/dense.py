"""Dense bi-encoders: SBERT (Reimers, Gurevych 2019, arXiv:1908.10084), DPR (Karpukhin et al. 2020, arXiv:2004.04906).

    score(q, d) = f(q) . g(d)    f, g: encoder, pooling, optional projection, and L2 normalisation for the cosine

SBERT is mean pooling, cosine and f = g; DPR is the [CLS] vector, the inner product and one encoder per side.

Shapes: B texts, L tokens, H dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irexp.backbone.backbone import Backbone, without_cache
from irexp.backbone.tokenizer import check_vocabulary, max_positions
from irexp.index.parts import Parts
from irexp.model.batching import TokenBudget
from irexp.model.checkpoint import lightning_ir, sentence_transformers
from irexp.model.checkpoint.layout import Home, Layout, Reader
from irexp.model.matryoshka import Nested
from irexp.model.pooling import Pooling, check_poolings, pool
from irexp.model.projection import Activation, Projection
from irexp.model.text import as_texts, end_with_eos, pad, read_length, replace_empty_masks, tokenize
from irexp.types import Embeddings, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Tower(nn.Module):
    """One side of a bi-encoder: from token ids to one vector per text."""

    def __init__(self, backbone: Backbone, *, pooling: Pooling | Sequence[Pooling], append_eos: bool = False) -> None:
        """Load the encoder; there is no projection until the caller adds one."""
        super().__init__()
        self.encoder: PreTrainedModel = backbone.load_encoder()
        self.tokenizer: PreTrainedTokenizerBase = backbone.load_tokenizer()
        if append_eos:
            end_with_eos(self.tokenizer)
        check_vocabulary(self.encoder, self.tokenizer)
        self.max_length = max_positions(self.encoder.config, self.tokenizer)
        self.poolings: tuple[Pooling, ...] = check_poolings(pooling)
        self.projections = nn.ModuleList()

    @property
    def dim(self) -> int:
        """The number of dimensions of the vector."""
        if len(self.projections):
            last = self.projections[-1]
            assert isinstance(last, Projection)
            return last.linear.out_features
        return int(self.encoder.config.hidden_size) * len(self.poolings)

    def project(self, dim: int, *, bias: bool, activation: Activation) -> None:
        """Add a linear layer on top, initialised by torch's global generator."""
        self.projections.append(Projection(self.dim, dim, bias=bias, activation=activation))

    def tokenize(self, texts: Sequence[str], prompt: str, length: int | None) -> list[list[int]]:
        """Token ids of texts after a prompt, truncated to a length."""
        return tokenize(self.tokenizer, [prompt + text for text in texts], length)

    def read_length(self, side: str, wanted: int | None, prompt: str) -> int:
        """The number of tokens to keep per text, special tokens and the prompt's included."""
        special = self.tokenizer.num_special_tokens_to_add()
        extra = len(self.tokenize([""], prompt, None)[0]) if prompt else special
        return read_length(side, wanted, self.max_length, extra_tokens=extra)

    def prompt_tokens(self, prompt: str) -> int:
        """The number of leading tokens that belong to a prompt, leading special tokens included."""
        if not prompt:
            return 0
        (ids,) = self.tokenize([""], prompt, None)
        return len(ids) - (ids[-1] in self.tokenizer.all_special_ids)

    def forward(self, tokens: Tokens) -> Tensor:
        """vector_BH, not normalised."""
        more = without_cache(self.encoder)
        output = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=tokens.attention_mask_BL, **more)
        hidden_BLH = output.last_hidden_state.float()
        pooled = [pool(hidden_BLH, tokens.pooling_mask_BL, pooling) for pooling in self.poolings]
        vector_BH = torch.cat(pooled, dim=-1)
        for projection in self.projections:
            vector_BH = projection(vector_BH)
        return vector_BH


class DenseBiEncoder(Nested):
    """A bi-encoder with one dense vector per text."""

    representation = "dense"

    home: ClassVar[Home | None] = Home("sentence-transformers", "sentence_transformers", "SentenceTransformer")
    layout: ClassVar[Layout] = sentence_transformers
    reads: ClassVar[tuple[Reader, ...]] = (lightning_ir.DPR, sentence_transformers)
    begins_bare = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "dense",
        pooling: Pooling | Sequence[Pooling] = "mean",
        projection_dim: int | None = None,
        projection_bias: bool = True,
        projection_activation: Activation = "Identity",
        similarity: Literal["cosine", "dot"] = "cosine",
        query_length: int | None = None,
        document_length: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
        pool_prompt: bool = True,
        query_backbone: Backbone | None = None,
        append_eos: bool = False,
        truncate_dim: int | None = None,
        matryoshka_dims: Sequence[int] = (),
    ) -> None:
        """Load the encoders.

        Args:
            backbone: the encoder of documents, and of queries unless `query_backbone` is given.
            name: the model's name in tables and folders.
            pooling: how token vectors become one, see `irexp.model.pooling`; several poolings are concatenated.
            projection_dim: output dimensions of a linear layer on top; None for no such layer.
            projection_bias: whether that layer has a bias.
            projection_activation: the activation after that layer.
            similarity: cosine normalises the vectors, so that every index can use the inner product.
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.
            query_prompt: text put in front of every query.
            document_prompt: text put in front of every document.
            pool_prompt: whether the prompt's tokens are pooled, too.
            query_backbone: a separate encoder for queries; None to share `backbone`.
            append_eos: whether to append the end token to every text (for decoders whose tokenizer does not).
            truncate_dim: the number of leading dimensions that are kept; None for all.
            matryoshka_dims: numbers of leading dimensions to train as well (Kusupati et al. 2022, arXiv:2205.13147).

        Raises:
            UserError: if a length exceeds the encoder's maximum or leaves no room for a text, or if the tokenizer lacks
                the end token that is to be appended.
        """
        super().__init__()
        self.name, self.is_cosine = name, similarity == "cosine"
        self.is_normalized = self.is_cosine
        self.largest_score = 1.0 if self.is_cosine else None
        self.document_tower = self.query_tower = Tower(backbone, pooling=pooling, append_eos=append_eos)
        if query_backbone:
            self.query_tower = Tower(query_backbone, pooling=pooling, append_eos=append_eos)
        if projection_dim:
            for tower in self.towers():
                tower.project(projection_dim, bias=projection_bias, activation=projection_activation)
        self.query_prompt, self.document_prompt, self.pool_prompt = query_prompt, document_prompt, pool_prompt
        self.choose_dims(truncate_dim, matryoshka_dims)
        self.query_length = self.query_tower.read_length("query", query_length, query_prompt)
        self.document_length = self.document_tower.read_length("document", document_length, document_prompt)

    @property
    def whole_dim(self) -> int:
        """The dimensions of a vector that is not cut."""
        return self.document_tower.dim

    def known_settings(self) -> dict[str, Any]:
        """With the layers of the document tower and the similarity."""
        poolings, layers = self.document_tower.poolings, self.document_tower.projections
        return super().known_settings() | {
            "pooling": poolings[0] if len(poolings) == 1 else poolings,
            "projection_dim": self.document_tower.dim if len(layers) else None,
            "similarity": "cosine" if self.is_cosine else "dot",
        }

    @property
    def has_two_towers(self) -> bool:
        """Whether queries have a separate encoder."""
        return self.query_tower is not self.document_tower

    def embed_queries(self, texts: Sequence[str], *, budget: TokenBudget | None = None) -> NDArray[np.float32]:
        """Embeddings of queries as an array (B, H), outside of training."""
        vectors = super().embed_queries(texts, budget=budget)
        assert isinstance(vectors, np.ndarray)
        return vectors

    def embed_documents(
        self, texts: Sequence[str], *, budget: TokenBudget | None = None, parts: Parts | None = None
    ) -> NDArray[np.float32]:
        """Embeddings of documents as an array (N, H), outside of training."""
        vectors = super().embed_documents(texts, budget=budget, parts=parts)
        assert isinstance(vectors, np.ndarray)
        return vectors

    def towers(self) -> list[Tower]:
        """The document tower, and the query tower if it is separate."""
        return [self.document_tower, self.query_tower] if self.has_two_towers else [self.document_tower]

    def encoders(self) -> dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """The encoder and tokenizer of documents, and those of queries if they are separate."""
        sides = {"backbone": self.document_tower}
        if self.has_two_towers:
            sides["query_backbone"] = self.query_tower
        return {key: (tower.encoder, tower.tokenizer) for key, tower in sides.items()}

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries."""
        return self.query_tower.tokenize(as_texts(texts, "queries"), self.query_prompt, self.query_length)

    def tokenize_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of documents."""
        return self.document_tower.tokenize(as_texts(texts, "documents"), self.document_prompt, self.document_length)

    def pad(self, token_ids: Sequence[Sequence[int]], *, is_query: bool) -> Tokens:
        """A batch, padded on the right."""
        tower, prompt = (
            (self.query_tower, self.query_prompt) if is_query else (self.document_tower, self.document_prompt)
        )
        tokens = pad(token_ids, tower.tokenizer.pad_token_id)
        if not prompt or self.pool_prompt:
            return tokens
        pooling_mask_BL = tokens.attention_mask_BL.clone()
        pooling_mask_BL[:, : tower.prompt_tokens(prompt)] = 0
        return replace(tokens, pooling_mask_BL=replace_empty_masks(pooling_mask_BL, tokens.attention_mask_BL))

    def encode_queries(self, tokens: Tokens) -> Embeddings:
        """Embeddings of queries."""
        return self._finish(self.query_tower(tokens))

    def encode_documents(self, tokens: Tokens) -> Embeddings:
        """Embeddings of documents."""
        return self._finish(self.document_tower(tokens))

    def _finish(self, vector_BH: Tensor) -> Embeddings:
        return Embeddings(self.cut(vector_BH, self.embedding_dim))
