"""Pointwise cross-encoders: monoBERT (Nogueira and Cho 2019, arXiv:1901.04085), monoELECTRA and similar models.

    s(q, d) = w . h_[CLS]([CLS] q [SEP] d [SEP]) + b                           one logit
    s(q, d) = log softmax(W h_[CLS] + b)_1                                     two logits: not relevant, relevant

h is the first token's vector inside the architecture's own classification head.

Shapes: P pairs, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from irexp.backbone.backbone import Backbone, without_cache
from irexp.backbone.tokenizer import check_end
from irexp.model.checkpoint import cross_encoder
from irexp.model.checkpoint.layout import Home, Layout, Reader
from irexp.model.cross_encoder import ScoreActivation
from irexp.model.pair_encoder import PairEncoder
from irexp.types import Tokens, UserError


class Mono(PairEncoder):
    """A pointwise cross-encoder with a classification head."""

    home: ClassVar[Home | None] = Home("sentence-transformers", "sentence_transformers", "CrossEncoder")
    layout: ClassVar[Layout] = cross_encoder
    reads: ClassVar[tuple[Reader, ...]] = (cross_encoder,)

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "mono",
        labels: Literal[1, 2] = 1,
        activation: ScoreActivation = "Identity",
        query_prompt: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        has_head: bool = False,
    ) -> None:
        """Load the encoder; a missing head is drawn by torch's global generator.

        Args:
            backbone: any encoder with a classification head.
            name: the model's name in tables and folders.
            labels: one logit, or two as in monoBERT.
            activation: applied to reported scores, not in training.
            query_prompt: text put in front of every query.
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.
            has_head: whether the backbone's weights must include the head; else a head of other labels is replaced by a
                newly drawn one.

        Raises:
            UserError: if the backbone has no classification head, or no padding token, or reads padding.
        """
        encoder = backbone.load_classifier(labels, has_head=has_head)
        super().__init__(
            backbone,
            encoder,
            name=name,
            query_length=query_length,
            document_length=document_length,
            query_prompt=query_prompt,
        )
        if encoder.config.pad_token_id is None:
            encoder.config.pad_token_id = self.tokenizer.pad_token_id
        if encoder.config.pad_token_id is None:
            raise UserError(
                f"model=mono: the backbone's tokenizer has no padding token, which a {type(encoder).__name__} needs to "
                f"find the end of a pair; save a tokenizer with a pad_token"
            )
        check_end(encoder, self.tokenizer)
        self.labels = labels
        self.activation = activation

    def score_pairs(self, tokens: Tokens, sizes: Sequence[int]) -> Tensor:
        """The logit of relevance, score_P."""
        more: dict[str, Any] = {} if tokens.type_ids_BL is None else {"token_type_ids": tokens.type_ids_BL}
        more |= without_cache(self.encoder)
        output = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=tokens.attention_mask_BL, **more)
        logit_PC: Tensor = output.logits.float()
        return logit_PC[:, 0] if self.labels == 1 else torch.log_softmax(logit_PC, dim=1)[:, 1]
