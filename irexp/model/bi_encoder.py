"""The interface of the bi-encoders: queries and documents are encoded apart and compared by their embeddings.

Shapes: B queries, N documents, L tokens, H embedding dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irexp.model.batching import token_budget_batches
from irexp.types import Embeddings, Tokens

Vectors = NDArray[np.float32]

#: Tokens that the conveniences encode at once.
_BUDGET = 8192


class BiEncoder(nn.Module, ABC):
    """A model with one embedding a text.

    Attributes:
        name: what tables and folders call it.
        embedding_dim: H.
    """

    name: str
    embedding_dim: int

    @abstractmethod
    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with prompt and special tokens, cut to the query length, not padded."""

    @abstractmethod
    def tokenize_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with prompt and special tokens, cut to the document length, not padded."""

    @abstractmethod
    def pad(self, token_ids: Sequence[Sequence[int]], *, is_query: bool) -> Tokens:
        """A batch of what the tokenize methods return."""

    @abstractmethod
    def encode_queries(self, tokens: Tokens) -> Embeddings:
        """Embeddings of queries."""

    @abstractmethod
    def encode_documents(self, tokens: Tokens) -> Embeddings:
        """Embeddings of documents."""

    def similarity(self, query: Embeddings, document: Embeddings) -> Tensor:
        """score_BN, the inner products of all queries with all documents, in fp32."""
        with torch.autocast(query.vectors_BH.device.type, enabled=False):
            return query.vectors_BH.float() @ document.vectors_BH.float().T

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embeddings of queries as an array (B, H), outside of training."""
        return self._embed(self.tokenize_queries(texts), self.encode_queries, is_query=True)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embeddings of documents as an array (N, H), outside of training."""
        return self._embed(self.tokenize_documents(texts), self.encode_documents, is_query=False)

    def score(self, query: str | Sequence[str], documents: Sequence[str]) -> Tensor:
        """How well documents answer a query: score_N, or score_BN for several queries."""
        queries = [query] if isinstance(query, str) else list(query)
        query_BH, document_NH = self.embed_queries(queries), self.embed_documents(documents)
        score_BN = torch.from_numpy(query_BH) @ torch.from_numpy(document_NH).T
        return score_BN[0] if isinstance(query, str) else score_BN

    @torch.inference_mode()
    def _embed(self, token_ids: list[list[int]], encode: Callable[[Tokens], Embeddings], *, is_query: bool) -> Vectors:
        was_training, device = self.training, next(self.parameters()).device
        self.eval()
        vector_NH = np.empty((len(token_ids), self.embedding_dim), dtype=np.float32)
        for batch in token_budget_batches([len(tokens) for tokens in token_ids], _BUDGET):
            tokens = self.pad([token_ids[position] for position in batch], is_query=is_query)
            vector_NH[batch] = encode(tokens.to(device)).vectors_BH.float().cpu().numpy()
        self.train(was_training)
        return vector_NH
