"""SPLADE (Formal et al. 2021, arXiv:2107.05720; max pooling: SPLADE v2, arXiv:2109.10086) and its lighter variants.

    w_v = max over tokens l of log(1 + relu(logit_lv))        the logits of the masked-language-model head
    score(q, d) = sum over vocabulary entries v of w_qv w_dv

Queries and documents are each encoded in one of these ways (SPLADE-doc, SPLADE v2 section 2.3; Inference-free: Geng et
al. 2024, arXiv:2411.04403):

    mlm      as above: expands a text by words that it does not contain
    lexical  as above, but zero for words that the text does not contain
    static   a learned weight per word of the text: no encoder is run
    binary   weight 1 per word of the text

Words are all tokens of the vocabulary but the special ones; for static also those, [UNK] included, except where the
tokenizer adds them itself.

Shapes: B texts, L tokens, H hidden dimensions, V vocabulary entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint import lightning_ir, sparse_encoder
from irexp.model.checkpoint.layout import Home, Layout, Reader
from irexp.model.max_logits import max_logits, sum_activations
from irexp.model.shared import SharedBiEncoder
from irexp.model.text import is_any_of
from irexp.types import Embeddings, Tokens, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

QueryEncoding = Literal["mlm", "lexical", "static", "binary"]
DocumentEncoding = Literal["mlm", "lexical"]


class SPLADE(SharedBiEncoder):
    """A sparse bi-encoder over the vocabulary of a masked language model."""

    representation = "sparse"
    without_matryoshka_dims: ClassVar[str] = "the dimensions of a lexical vector are words, which have no order"

    home: ClassVar[Home | None] = Home("sentence-transformers", "sentence_transformers", "SparseEncoder")
    layout: ClassVar[Layout] = sparse_encoder
    reads: ClassVar[tuple[Reader, ...]] = (lightning_ir.SPARSE, sparse_encoder)
    begins_bare = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "splade",
        query_encoding: QueryEncoding = "mlm",
        document_encoding: DocumentEncoding = "mlm",
        pooling: Literal["max", "sum"] = "max",
        activation: Literal["log1p", "log1p_log1p"] = "log1p",
        max_active_dims: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Load the encoder with its head.

        Args:
            backbone: any encoder with a masked-language-model head.
            name: the model's name in tables and folders.
            query_encoding: how queries become vectors.
            document_encoding: how documents become vectors.
            pooling: max, or sum as in the first SPLADE.
            activation: log(1 + relu(x)), or the same with a second log(1 + x) (OpenSearch's version 3).
            max_active_dims: outside of training, the number of weights kept per text, the largest by absolute value;
                None for all.
            query_prompt: text put in front of every query.
            document_prompt: text put in front of every document.
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.

        Raises:
            UserError: if the head's logits are not a linear function of hidden states.
        """
        masked_lm = backbone.load_masked_lm()
        super().__init__(
            backbone,
            masked_lm,
            name=name,
            query_length=query_length,
            document_length=document_length,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
        )
        self.decoder: nn.Linear = masked_lm.get_output_embeddings()  # type: ignore[no-untyped-call]
        if not self._splits():
            raise UserError(
                f"model=splade: the logits of a {type(masked_lm).__name__} are not a linear function of its hidden "
                f"states, so that they cannot be pooled in chunks; use a BERT, RoBERTa, ELECTRA or ModernBERT"
            )
        self.query_encoding: QueryEncoding = query_encoding
        self.document_encoding: DocumentEncoding = document_encoding
        self.pooling, self.activation = pooling, activation
        if max_active_dims is not None and max_active_dims < 1:
            raise UserError(f"model.max_active_dims={max_active_dims}: it must be at least 1, or null for all")
        self.max_active_dims = max_active_dims
        self.static_weights = nn.Parameter(torch.ones(self.embedding_dim)) if query_encoding == "static" else None

    @property
    def embedding_dim(self) -> int:  # type: ignore[override]
        """V."""
        return self.decoder.out_features

    def pad(self, token_ids: Sequence[Sequence[int]], *, is_query: bool) -> Tokens:
        """A batch; only a query's own tokens have static weights, not those that the tokenizer adds."""
        tokens = super().pad(token_ids, is_query=is_query)
        if not is_query or self.query_encoding != "static":
            return tokens
        is_added = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        before, after = [*is_added, 0].index(0), [*reversed(is_added), 0].index(0)
        place_L = torch.arange(tokens.input_ids_BL.shape[1])
        end_B = torch.tensor([len(ids) - after for ids in token_ids])
        is_own_BL = (place_L >= before) & (place_L < end_B[:, None])
        return replace(tokens, pooling_mask_BL=is_own_BL.long())

    def encode_queries(self, tokens: Tokens) -> Embeddings:
        """Weights of queries."""
        if self.query_encoding == "binary":
            return self._finish(self._presence(tokens, excluded=self.tokenizer.all_special_ids))
        if self.query_encoding == "static":
            assert self.static_weights is not None
            return self._finish(self._presence(tokens, excluded=()) * self.static_weights)
        return self._encode(tokens, is_lexical=self.query_encoding == "lexical")

    def encode_documents(self, tokens: Tokens) -> Embeddings:
        """Weights of documents."""
        return self._encode(tokens, is_lexical=self.document_encoding == "lexical")

    def masked_lm(self) -> PreTrainedModel:
        """The backbone as it was loaded, with its decoder put back, for saving; call `split` afterwards."""
        self.encoder.set_output_embeddings(self.decoder)  # type: ignore[no-untyped-call]
        head: Any = getattr(getattr(self.encoder, "cls", None), "predictions", None)
        bias = getattr(head, "bias", None)
        if not self.encoder.config.tie_word_embeddings and bias is not None and bias is self.decoder.bias:
            head.bias = nn.Parameter(bias.detach().clone())  # BERT's has two names, of which only one would be saved
        return self.encoder

    def split(self) -> None:
        """Remove the decoder from the backbone, whose logits are then the decoder's inputs."""
        self.encoder.set_output_embeddings(_NoDecoder())  # type: ignore[no-untyped-call]

    def _splits(self) -> bool:
        """Split, and return whether backbone and decoder give the same logits for a token apart as together."""
        token_BL = torch.zeros((1, 1), dtype=torch.int64)
        try:
            with torch.no_grad():
                whole_BLV = self.encoder(input_ids=token_BL).logits
                self.split()
                split_BLV = linear(self.encoder(input_ids=token_BL).logits, self.decoder.weight, self.decoder.bias)
        except (RuntimeError, TypeError, AttributeError):  # depends on the architecture of the head
            return False
        return whole_BLV.shape == split_BLV.shape and torch.allclose(whole_BLV, split_BLV, rtol=1e-3, atol=1e-3)

    def _encode(self, tokens: Tokens, *, is_lexical: bool) -> Embeddings:
        hidden_BLH = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=tokens.attention_mask_BL).logits
        if self.pooling == "max":
            logit_BV = max_logits(hidden_BLH, self.decoder.weight, self.decoder.bias, tokens.pooling_mask_BL)
            weight_BV = self._activate(logit_BV)
        else:
            weight_BV = sum_activations(
                hidden_BLH, self.decoder.weight, self.decoder.bias, tokens.pooling_mask_BL, self._activate
            )
        if is_lexical:
            weight_BV = weight_BV * self._presence(tokens, excluded=self.tokenizer.all_special_ids)
        return self._finish(weight_BV)

    def _finish(self, weight_BV: Tensor) -> Embeddings:
        if self.max_active_dims is None or self.training:
            return Embeddings(weight_BV)
        kept_BK = weight_BV.abs().topk(min(self.max_active_dims, self.embedding_dim), dim=-1).indices
        return Embeddings(torch.zeros_like(weight_BV).scatter(1, kept_BK, weight_BV.gather(1, kept_BK)))

    def _activate(self, logit: Tensor) -> Tensor:
        weight = torch.log1p(torch.relu(logit))
        return torch.log1p(weight) if self.activation == "log1p_log1p" else weight

    def _presence(self, tokens: Tokens, *, excluded: Sequence[int]) -> Tensor:
        """1 for each word of a text, else 0, and 0 for excluded ones."""
        is_word_BL = tokens.pooling_mask_BL.bool() & ~is_any_of(tokens.input_ids_BL, excluded)
        presence_BV = torch.zeros(len(is_word_BL), self.embedding_dim, device=is_word_BL.device)
        return presence_BV.scatter_reduce(1, tokens.input_ids_BL, is_word_BL.float(), "amax")


class _NoDecoder(nn.Module):
    """The identity in place of the decoder, with the attributes that transformers expects."""

    weight = None
    bias = None

    def forward(self, hidden_BLH: Tensor) -> Tensor:
        """Return the hidden states unchanged."""
        return hidden_BLH
