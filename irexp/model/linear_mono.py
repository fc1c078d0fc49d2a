"""monoBERT and monoELECTRA with a single linear layer as head, as in Lightning IR (webis/monoelectra-base).

    s(q, d) = w . h_[CLS]([CLS] q [SEP] d [SEP]) + b                           one logit
    s(q, d) = log softmax(W h_[CLS] + b)_1                                     two logits: not relevant, relevant

h is the encoder's output at the first token; `irexp.model.mono` has the architecture's own classification head instead.

Shapes: P pairs, C logits, H hidden dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from irexp.backbone.backbone import Backbone, without_cache
from irexp.model.checkpoint import lightning_ir
from irexp.model.checkpoint.layout import Reader
from irexp.model.pair_encoder import PairEncoder
from irexp.types import Tokens


class LinearMono(PairEncoder):
    """A pointwise cross-encoder with a linear layer on the first token."""

    reads: ClassVar[tuple[Reader, ...]] = (lightning_ir.MONO,)

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "linear_mono",
        labels: Literal[1, 2] = 1,
        bias: bool = False,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Load the encoder; the layer on top is drawn by torch's global generator.

        Args:
            backbone: any encoder.
            name: the model's name in tables and folders.
            labels: one logit, or two as in monoBERT.
            bias: whether the layer has a bias.
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.
        """
        super().__init__(
            backbone, backbone.load_encoder(), name=name, query_length=query_length, document_length=document_length
        )
        self.labels, self.bias = labels, bias
        self.linear = nn.Linear(self.encoder.config.hidden_size, labels, bias=bias)

    def score_pairs(self, tokens: Tokens, sizes: Sequence[int]) -> Tensor:
        """The logit of relevance, score_P."""
        more: dict[str, Any] = {} if tokens.type_ids_BL is None else {"token_type_ids": tokens.type_ids_BL}
        more |= without_cache(self.encoder)
        output = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=tokens.attention_mask_BL, **more)
        logit_PC: Tensor = self.linear(output.last_hidden_state[:, 0].float()).float()
        return logit_PC[:, 0] if self.labels == 1 else torch.log_softmax(logit_PC, dim=1)[:, 1]
