"""Set-Encoder (Schlatt et al. 2025, arXiv:2404.06912): a listwise cross-encoder, invariant to the documents' order.

    s(q, d) = w . h_[CLS]([CLS] q [SEP] d [SEP])
    attention of a token of document d:  softmax( Q_d [K_d ; K_1,I ... K_n,I without d]^T / sqrt(H) ) [V_d ; V_1,I ...]

I is each document's interaction token: its first token ([CLS]), or an extra token after it. So in every layer the
documents of a list see one another through one token each. Positions are counted within a document, so that the
documents' order has no effect.

Shapes: P pairs (all documents of some lists), L tokens, A attention heads, H dimensions of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint import lightning_ir, set_encoder
from irexp.model.checkpoint.layout import Layout, Reader
from irexp.model.cross_encoder import PairIds
from irexp.model.pair_encoder import PairEncoder
from irexp.types import Tokens, UserError

#: The name under which the attention below is registered in transformers.
ATTENTION = "irexp_set"

#: The extra interaction token.
INTERACTION = "[INT]"

#: The attribute of an attention module that holds the sizes of the lists.
_LISTS = "irexp_lists"

_ENCODERS = ("bert", "electra", "roberta", "xlm-roberta", "distilbert")


class SetEncoder(PairEncoder):
    """A listwise cross-encoder."""

    is_listwise = True
    without_int8: ClassVar[str | None] = "the documents of a list see one another inside its transformer"

    layout: ClassVar[Layout] = set_encoder
    reads: ClassVar[tuple[Reader, ...]] = (lightning_ir.SET_ENCODER,)

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "set_encoder",
        extra_token: bool = False,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Load the encoder; the layer on top is drawn by torch's global generator.

        Args:
            backbone: an encoder of a supported type, such as BERT or ELECTRA.
            name: the model's name in tables and folders.
            extra_token: whether documents see one another through an extra token rather than [CLS].
            query_length: tokens kept per query; None for 32, or the encoder's maximum if that is smaller.
            document_length: tokens kept per document; None for 256, or the encoder's maximum if that is smaller.
        """
        super().__init__(
            backbone, backbone.load_encoder(), name=name, query_length=query_length, document_length=document_length
        )
        kind = self.encoder.config.model_type
        if kind not in _ENCODERS:
            raise UserError(
                f"model=set_encoder: the backbone is a {kind}, which is not supported; use one of "
                f"{', '.join(_ENCODERS)}"
            )
        self.linear = nn.Linear(self.encoder.config.hidden_size, 1, bias=False)
        self.extra_token = extra_token
        if extra_token:
            self.add_tokens([INTERACTION])
        found = self.tokenizer.get_vocab().get(INTERACTION)
        self._adds_token = extra_token and found not in self.tokenizer("a", "a")["input_ids"]
        self.encoder.set_attn_implementation(ATTENTION)

    @property
    def room(self) -> int:
        """The maximum number of tokens of both texts together, special and extra tokens excluded."""
        return super().room - self._adds_token

    def tokenize_pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[PairIds]:
        """Token ids of pairs, with the extra token, if there is one, after the first token."""
        pairs = super().tokenize_pairs(queries, documents)
        if not self._adds_token:  # Lightning IR's tokenizer adds it by itself
            return pairs
        (token,) = self.tokenizer.encode(INTERACTION, add_special_tokens=False)
        return [
            PairIds([ids[0], token, *ids[1:]], None if types is None else [types[0], types[0], *types[1:]])
            for ids, types in pairs
        ]

    def score_pairs(self, tokens: Tokens, sizes: Sequence[int]) -> Tensor:
        """score_P; the pairs must form whole lists."""
        place = int(self.extra_token)
        for module in self.encoder.modules():
            if hasattr(module, "is_causal"):  # transformers' attention modules, which pass themselves to the function
                setattr(module, _LISTS, (list(sizes), place, tokens.attention_mask_BL))
        types = {} if tokens.type_ids_BL is None else {"token_type_ids": tokens.type_ids_BL}
        output = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=tokens.attention_mask_BL, **types)
        return self.linear(output.last_hidden_state[:, 0].float()).squeeze(-1).float()  # type: ignore[no-any-return]


def _set_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a document's own tokens and the interaction tokens of the other documents of its list.

    Args:
        module: the attention module, which carries the sizes of the lists.
        query: (P, A, L, H).
        key: (P, A, L, H).
        value: (P, A, L, H).
        attention_mask: not used; the padding mask comes with the module.
        scaling: the factor of the inner products.
        dropout: the probability of dropping an attention weight.
    """
    sizes, place, mask_PL = getattr(module, _LISTS)
    is_seen_PS = torch.cat([mask_PL.bool(), _others(sizes, mask_PL.device)], dim=1)
    key_PASH = torch.cat([key, _shared(key, sizes, place)], dim=2)
    value_PASH = torch.cat([value, _shared(value, sizes, place)], dim=2)
    output = scaled_dot_product_attention(
        query, key_PASH, value_PASH, attn_mask=is_seen_PS[:, None, None], dropout_p=dropout, scale=scaling
    )
    return output.transpose(1, 2).contiguous(), None


def _shared(state_PALH: Tensor, sizes: list[int], place: int) -> Tensor:
    """For each document, the interaction tokens of its list: (P, A, largest list, H)."""
    token_PAH = state_PALH[:, :, place]
    largest, lists = max(sizes), []
    for tokens_NAH in torch.split(token_PAH, sizes):
        row_ANH = tokens_NAH.transpose(0, 1)
        filled_ANH = nn.functional.pad(row_ANH, (0, 0, 0, largest - row_ANH.shape[1]))
        lists.append(filled_ANH.expand(len(tokens_NAH), *filled_ANH.shape))
    return torch.cat(lists)


def _others(sizes: list[int], device: torch.device) -> Tensor:
    """For each document, True at the other documents of its list: (P, largest list)."""
    largest = max(sizes)
    rows = [nn.functional.pad(~torch.eye(size, dtype=torch.bool, device=device), (0, largest - size)) for size in sizes]
    return torch.cat(rows)


AttentionInterface.register(ATTENTION, _set_attention)
