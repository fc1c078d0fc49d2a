"""From texts to padded token ids, the same way for every model.

Shapes: B texts, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tokenizers import processors
from torch import Tensor

from irexp.types import Tokens, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What is read of a text if neither the configuration nor the checkpoint says.
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 256


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int | None) -> list[list[int]]:
    """Token ids with the special tokens, cut to a length; a text without any gets the end token, so that it is one."""
    if not texts:
        return []
    limits = {"truncation": True, "max_length": length} if length else {"truncation": False}
    encoded = tokenizer(list(texts), padding=False, return_attention_mask=False, verbose=False, **limits)
    return [ids or [tokenizer.eos_token_id or tokenizer.unk_token_id or 0] for ids in encoded["input_ids"]]


def end_with_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer put its end token behind every text, as it will be saved.

    Raises:
        UserError: if it has none.
    """
    end, end_id = tokenizer.eos_token, tokenizer.eos_token_id
    if end is None:
        raise UserError("model.append_eos=true: the backbone's tokenizer has no end token")
    backend = tokenizer.backend_tokenizer
    present = [backend.post_processor] if backend.post_processor is not None else []
    behind = processors.TemplateProcessing(single=f"$A {end}", pair=f"$A $B:1 {end}:1", special_tokens=[(end, end_id)])
    backend.post_processor = processors.Sequence([*present, behind])


def cut(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> list[str]:
    """Texts cut behind their first `length` tokens: characters are dropped and none is changed."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    offsets = encoded["offset_mapping"]
    return [
        text if len(places) <= length else text[: places[length - 1][1]]
        for text, places in zip(texts, offsets, strict=True)
    ]


def pad(token_ids: Sequence[Sequence[int]], padding: int | None) -> Tokens:
    """A batch, padded on the right."""
    length = max(map(len, token_ids))
    input_ids_BL = torch.full((len(token_ids), length), padding or 0)
    mask_BL = torch.zeros_like(input_ids_BL)
    for row, ids in enumerate(token_ids):
        input_ids_BL[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        mask_BL[row, : len(ids)] = 1
    return Tokens(input_ids_BL, mask_BL, mask_BL)


def or_whole(mask_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """A mask of the tokens that count; of a text of which it leaves nothing, as of an empty one, all do."""
    return torch.where(mask_BL.bool().any(dim=1, keepdim=True), mask_BL, attention_mask_BL)


def is_any_of(input_ids_BL: Tensor, ids: Sequence[int]) -> Tensor:
    """Which tokens are among some ids."""
    return torch.isin(input_ids_BL, torch.tensor(sorted(set(ids)), device=input_ids_BL.device, dtype=torch.int64))


def read_length(side: str, wanted: int | None, longest: int | None, *, beside: int = 0) -> int:
    """The tokens to read of a query or a document, within what the encoder can.

    Args:
        side: query or document.
        wanted: None for what is usual, or what the encoder can read if that is less.
        longest: what the encoder can read; None if nothing bounds it.
        beside: tokens of a length that are no text: special ones, markers, a prompt.

    Raises:
        UserError: if more are wanted, or so few that no token of the text is among them.
    """
    if wanted is not None and longest is not None and wanted > longest:
        raise UserError(f"model.{side}_length={wanted}: the backbone reads {longest} tokens at most")
    fallback = QUERY_LENGTH if side == "query" else DOCUMENT_LENGTH
    length = min(fallback, longest or fallback) if wanted is None else wanted
    if length <= beside:
        besides = f"; {beside} are no text: special tokens, markers, a prompt" if beside else ""
        raise UserError(f"model.{side}_length={length}: the least is {beside + 1}{besides}")
    return length
