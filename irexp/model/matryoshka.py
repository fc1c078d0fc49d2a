"""Matryoshka representations (Kusupati et al. 2022, arXiv:2205.13147): vectors whose leading dimensions suffice.

    L = mean over the numbers of dimensions m of  L(s_m)       s_m: the scores of the first m dimensions of every vector

The loss L is any loss; a vector is that of a text or of a token. Where a model normalises its vectors, it normalises
them again after the cut. The whole vector is one of the m. The dimensions of a lexical vector are words, which have no
order, and a cross-encoder has no vectors, so that neither is such a model.

Shapes: B texts or queries, N documents, H dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn.functional import normalize

from irexp.model.bi_encoder import BiEncoder, Encoded
from irexp.types import Embeddings, UserError


class Nested(BiEncoder):
    """A bi-encoder whose vectors can be cut to their leading dimensions.

    Attributes:
        truncate_dim: the number of leading dimensions that are kept; None for all.
        matryoshka_dims: numbers of leading dimensions that are trained as well.
        is_normalized: whether vectors have length 1.
    """

    truncate_dim: int | None
    matryoshka_dims: list[int]
    is_normalized: bool

    @property
    @abstractmethod
    def whole_dim(self) -> int:
        """The dimensions of a vector that is not cut."""

    @property
    def embedding_dim(self) -> int:  # type: ignore[override]
        """H."""
        return self.truncate_dim or self.whole_dim

    def choose_dims(self, truncate_dim: int | None, matryoshka_dims: Sequence[int] | None) -> None:
        """Set the number of dimensions that are kept, and those that are trained as well.

        Args:
            truncate_dim: the number of leading dimensions that are kept; None for all.
            matryoshka_dims: numbers of leading dimensions to train as well; None for none.

        Raises:
            UserError: if vectors have not as many dimensions.
        """
        self.truncate_dim, self.matryoshka_dims = truncate_dim, list(matryoshka_dims or ())
        whole = self.whole_dim
        if truncate_dim is not None and not 0 < truncate_dim <= whole:
            raise UserError(f"model.truncate_dim={truncate_dim}: the vectors have {whole} dimensions")
        if any(not 0 < dim <= self.embedding_dim for dim in self.matryoshka_dims):
            kept = f", of which model.truncate_dim keeps {truncate_dim}" if truncate_dim else ""
            raise UserError(f"model.matryoshka_dims={self.matryoshka_dims}: the vectors have {whole} dimensions{kept}")
        # whole vectors are always trained; sentence-transformers lists them, too
        self.matryoshka_dims = [dim for dim in dict.fromkeys(self.matryoshka_dims) if dim != self.embedding_dim]

    def similarity(self, query: Encoded, document: Encoded) -> list[Tensor]:
        """score_BN of all queries with all documents: of whole vectors, and in training per Matryoshka dimension."""
        scores = super().similarity(query, document)
        for dim in self.matryoshka_dims if self.training else ():
            scores += super().similarity(self._leading(query, dim), self._leading(document, dim))
        return scores

    def cut(self, vectors_BH: Tensor, dim: int) -> Tensor:
        """The leading dimensions of vectors, of texts or of their tokens, normalised where the model normalises."""
        vectors_BH = vectors_BH[..., :dim]
        return normalize(vectors_BH.float(), dim=-1) if self.is_normalized else vectors_BH

    def _leading(self, encoded: Encoded, dim: int) -> Encoded:
        if isinstance(encoded, Embeddings):
            return Embeddings(self.cut(encoded.vectors_BH, dim))
        return replace(encoded, vectors_BLH=self.cut(encoded.vectors_BLH, dim))
