"""The interface of the bi-encoders: queries and documents are encoded separately and compared by their embeddings.

Shapes: B queries, N documents, L tokens, H embedding dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from irexp.index.compare import compare
from irexp.index.parts import Parts
from irexp.index.vectors import Representation, TokenVectors, Vectors, empty, join, take
from irexp.model.batching import TokenBudget
from irexp.model.maxsim import maxsim
from irexp.model.model import Model
from irexp.model.text import as_texts
from irexp.types import Embeddings, TokenEmbeddings, Tokens

#: The embeddings of a batch: one vector per text, or one per token.
Encoded = Embeddings | TokenEmbeddings


class BiEncoder(Model):
    """A model that embeds queries and documents separately.

    Attributes:
        representation: one dense vector per text, one sparse vector per text, or one vector per token.
        matches_tokens: whether vectors of tokens are compared only with those of the same token.
        embedding_dim: H.
    """

    representation: Representation
    matches_tokens: ClassVar[bool] = False
    embedding_dim: int

    @abstractmethod
    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with prompt and special tokens, truncated to the query length, not padded."""

    @abstractmethod
    def tokenize_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with prompt and special tokens, truncated to the document length, not padded."""

    @abstractmethod
    def pad(self, token_ids: Sequence[Sequence[int]], *, is_query: bool) -> Tokens:
        """A padded batch of the token ids that the tokenize methods return."""

    @abstractmethod
    def encode_queries(self, tokens: Tokens) -> Encoded:
        """Embeddings of queries."""

    @abstractmethod
    def encode_documents(self, tokens: Tokens) -> Encoded:
        """Embeddings of documents."""

    def similarity(self, query: Encoded, document: Encoded) -> list[Tensor]:
        """score_BN of all queries with all documents, in fp32; several such tensors if several scores are trained."""
        with torch.autocast(self.device.type, enabled=False):
            return [self._compare(query, document)]

    def _compare(self, query: Encoded, document: Encoded) -> Tensor:
        """score_BN of all queries with all documents, in fp32."""
        if isinstance(query, Embeddings) and isinstance(document, Embeddings):
            return query.vectors_BH.float() @ document.vectors_BH.float().T
        assert isinstance(query, TokenEmbeddings) and isinstance(document, TokenEmbeddings)
        return maxsim(query, document)

    def embed_queries(self, texts: Sequence[str], *, budget: TokenBudget | None = None) -> Vectors:
        """Embeddings of queries, outside of training: an array (B, H), a sparse array, or ragged token vectors."""
        tokens = self.tokenize_queries(as_texts(texts, "queries"))
        return self._embed(tokens, self.encode_queries, budget, None, is_query=True)

    def embed_documents(
        self, texts: Sequence[str], *, budget: TokenBudget | None = None, parts: Parts | None = None
    ) -> Vectors:
        """Embeddings of documents, outside of training: an array (N, H), a sparse array, or ragged token vectors.

        Args:
            texts: the documents.
            budget: tokens per batch, padding included; None for what suits the device.
            parts: where finished batches are kept, so that the same call resumes after a kill; None to keep nothing.
        """
        tokens = self.tokenize_documents(as_texts(texts, "documents"))
        return self._embed(tokens, self.encode_documents, budget, parts, is_query=False)

    def score(self, query: str | Sequence[str], documents: Sequence[str]) -> Tensor:
        """The scores of documents for a query: score_N, or score_BN for several queries."""
        queries = [query] if isinstance(query, str) else as_texts(query, "query")
        score_BN = torch.from_numpy(compare(self.embed_queries(queries), self.embed_documents(documents)))
        return score_BN[0] if isinstance(query, str) else score_BN

    def to_vectors(self, encoded: Encoded) -> Vectors:
        """Embeddings as they are stored and searched, in fp32."""
        if isinstance(encoded, TokenEmbeddings):
            mask_BL = encoded.mask_BL.bool()
            ids_BL = encoded.token_ids_BL
            return TokenVectors(
                encoded.vectors_BLH[mask_BL].float().cpu().numpy(),
                np.concatenate([[0], mask_BL.sum(dim=1).cumsum(dim=0).cpu().numpy()]).astype(np.int64),
                None if ids_BL is None else ids_BL[mask_BL].cpu().numpy().astype(np.int32),
            )
        vector_BH = encoded.vectors_BH.float()
        return to_csr(vector_BH) if self.representation == "sparse" else vector_BH.cpu().numpy()

    @torch.inference_mode()
    def _embed(
        self,
        token_ids: list[list[int]],
        encode: Callable[[Tokens], Encoded],
        budget: TokenBudget | None,
        parts: Parts | None,
        *,
        is_query: bool,
    ) -> Vectors:
        def embed(batch: list[int]) -> Vectors:
            tokens = self.pad([token_ids[position] for position in batch], is_query=is_query)
            return self.to_vectors(encode(tokens.to(self.device)))

        was_training = self.training
        self.eval()
        batches, rows = [], []
        lengths = [len(tokens) for tokens in token_ids]
        budget = budget or TokenBudget.of(self, self.device)
        for batch, vectors in budget.resume_batches(lengths, embed, parts or Parts()):
            batches.append(vectors)
            rows += batch
        self.train(was_training)
        return in_order(batches, rows) if batches else empty(self.representation, self.embedding_dim)


def to_csr(vector_BH: Tensor) -> scipy.sparse.csr_array:
    """The values that are not zero, which the device selects: far fewer are copied than B x H."""
    row_T, column_T = vector_BH.nonzero(as_tuple=True)
    value_T = vector_BH[row_T, column_T].cpu().numpy()
    starts_B1 = np.concatenate([[0], row_T.bincount(minlength=len(vector_BH)).cumsum(dim=0).cpu().numpy()])
    indices = column_T.cpu().numpy().astype(np.int32), starts_B1.astype(np.int32)
    return scipy.sparse.csr_array((value_T, *indices), shape=(len(vector_BH), vector_BH.shape[1]))


def in_order(batches: Sequence[Vectors], rows: Sequence[int]) -> Vectors:
    """The vectors of batches, in the original order of their texts."""
    return take(join(batches), np.argsort(np.asarray(rows, dtype=np.int64)))
