"""From texts to padded token ids, shared by all models.

Shapes: B texts, L tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import processors
from torch import Tensor
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils.generic import PaddingStrategy

from irexp.types import Tokens, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Tokens kept per text if neither the configuration nor the checkpoint sets a length.
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 256


def as_texts(texts: Sequence[str], what: str) -> list[str]:
    """The texts as a list, checked.

    Args:
        texts: the caller's argument.
        what: the argument's name, for the message.

    Raises:
        UserError: if it is a single text, whose characters would each be taken for a text, or holds anything but texts.
    """
    if isinstance(texts, str | bytes):
        raise UserError(f"{what} is a single text, but must be a list of texts: [{texts[:20]!r}]")
    found = list(texts)
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"{what}[{place}] is a {type(text).__name__}, but must be a text")
    return found


@contextmanager
def explain_tokenizer_errors(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[None]:
    """Turn the errors of a tokenizer into messages; they are bare Exceptions, or panics, which are not Exceptions.

    Args:
        tokenizer: the tokenizer that is called.
        texts: the texts that are tokenized.

    Raises:
        UserError: naming the tokenizer, or the text that caused the error.
    """
    try:
        yield
    except BaseException as error:
        is_panic = type(error).__name__ == "PanicException"
        if not is_panic and type(error) not in (Exception, TypeError):
            raise
        broken = [text for text in texts if not _is_unicode(text)]
        if broken:
            raise UserError(
                f"the text {broken[0][:80]!r} contains half a character (an unpaired surrogate); correct the text"
            ) from error
        if type(error) is TypeError:
            raise
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} fails{' and would end the process' if is_panic else ''} "
            f"({error}): it lacks an unknown token, or combines incompatible parts; use another backbone, or correct "
            f"its tokenizer.json"
        ) from error


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8; unpaired surrogates, which JSON allows, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int | None) -> list[list[int]]:
    """Token ids with special tokens, truncated to a length; a text without tokens gets the end token, to have one."""
    if not texts:
        return []
    with explain_tokenizer_errors(tokenizer, texts):
        found = _ids(tokenizer, list(texts), length)
    return [ids or [tokenizer.eos_token_id or tokenizer.unk_token_id or 0] for ids in found]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int | None) -> list[list[int]]:
    """Token ids, of a fast tokenizer without the lists beside them that transformers makes: in half of the time."""
    if not tokenizer.is_fast:
        limits = {"truncation": True, "max_length": length} if length else {"truncation": False}
        slow: list[list[int]] = tokenizer(texts, padding=False, return_attention_mask=False, **limits)["input_ids"]
        return slow
    tokenizer.set_truncation_and_padding(
        padding_strategy=PaddingStrategy.DO_NOT_PAD,
        truncation_strategy=TruncationStrategy.LONGEST_FIRST if length else TruncationStrategy.DO_NOT_TRUNCATE,
        max_length=length,
        stride=0,
        pad_to_multiple_of=None,
        padding_side=None,
    )
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return [encoding.ids for encoding in backend.encode_batch_fast(texts)]


def end_with_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a tokenizer append its end token to every text, unless it does already; the change is saved with it.

    T5's and RoBERTa's tokenizers do already, and a second end token would be lost: their classes in transformers set
    the post-processor again when they are loaded.

    Raises:
        UserError: if it has no end token.
    """
    end, end_id = tokenizer.eos_token, tokenizer.eos_token_id
    if end is None:
        raise UserError("model.append_eos=true: the backbone's tokenizer has no end token; set it to false")
    with explain_tokenizer_errors(tokenizer, ()):
        if tokenizer("")["input_ids"][-1:] == [end_id]:
            return
    backend = tokenizer.backend_tokenizer
    present = backend.post_processor
    if present is not None and (parts := _with_end(json.loads(present.__getstate__()), end, end_id)):
        changed = processors.Sequence([]) if parts["type"] == "Sequence" else processors.TemplateProcessing()
        changed.__setstate__(json.dumps(parts).encode())
        backend.post_processor = changed
        return
    template = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A $B:1 {end}:1", special_tokens=[(end, end_id)]
    )
    backend.post_processor = processors.Sequence([*([present] if present is not None else []), template])


def _with_end(said: dict[str, Any], end: str, end_id: int) -> dict[str, Any] | None:
    """Add the end token to a post-processor's template, and return it; None if no template of it adds tokens.

    A second template after one that adds tokens, such as Gemma's <bos>, would make the tokenizers library panic.
    """
    if said["type"] == "Sequence":
        is_changed = any(_with_end(part, end, end_id) for part in reversed(said["processors"]))  # only the last one
        return said if is_changed else None
    if said["type"] != "TemplateProcessing" or not said["special_tokens"]:
        return None
    for key, kind in (("single", 0), ("pair", 1)):
        last = said[key][-1].get("SpecialToken", {}) if said[key] else {}
        if last.get("id") != end:
            said[key].append({"SpecialToken": {"id": end, "type_id": kind}})
    said["special_tokens"][end] = {"id": end, "ids": [end_id], "tokens": [end]}
    return said


def cut(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> list[str]:
    """Texts truncated to `length` tokens, on the tokenizer's side; the characters that are kept do not change."""
    if not texts:
        return []
    options = {"return_offsets_mapping": True, "return_attention_mask": False, "verbose": False}
    with explain_tokenizer_errors(tokenizer, texts):
        encoded = tokenizer(list(texts), add_special_tokens=False, **options)
    offsets = encoded["offset_mapping"]
    is_left = tokenizer.truncation_side == "left"

    def shortened(text: str, places: Sequence[tuple[int, int]]) -> str:
        if len(places) <= length:
            return text
        return text[places[-length][0] :] if is_left else text[: places[length - 1][1]]

    return [shortened(text, places) for text, places in zip(texts, offsets, strict=True)]


def pad(token_ids: Sequence[Sequence[int]], padding: int | None) -> Tokens:
    """A batch, padded on the right."""
    lengths = [len(ids) for ids in token_ids]
    is_token_BL = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    input_ids_BL = torch.full(is_token_BL.shape, padding or 0)
    input_ids_BL[is_token_BL] = torch.from_numpy(np.fromiter(chain.from_iterable(token_ids), np.int64, sum(lengths)))
    mask_BL = is_token_BL.long()
    return Tokens(input_ids_BL, mask_BL, mask_BL)


def replace_empty_masks(mask_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """The mask, with the attention mask for texts that have no token in it, such as an empty text."""
    return torch.where(mask_BL.bool().any(dim=1, keepdim=True), mask_BL, attention_mask_BL)


def is_any_of(input_ids_BL: Tensor, ids: Sequence[int]) -> Tensor:
    """Whether each token is one of some ids."""
    return torch.isin(input_ids_BL, torch.tensor(sorted(set(ids)), device=input_ids_BL.device, dtype=torch.int64))


def read_length(side: str, wanted: int | None, longest: int | None, *, extra_tokens: int = 0) -> int:
    """The number of tokens to keep per query or document, within the encoder's maximum.

    Args:
        side: query or document.
        wanted: the configured length; None for the default, or the encoder's maximum if that is smaller.
        longest: the encoder's maximum; None if there is no limit.
        extra_tokens: tokens within the length that are not text: special tokens, markers, a prompt.

    Raises:
        UserError: if the length exceeds the maximum, or leaves no room for a token of the text.
    """
    if wanted is not None and longest is not None and wanted > longest:
        raise UserError(f"model.{side}_length={wanted}: the backbone reads at most {longest} tokens")
    fallback = QUERY_LENGTH if side == "query" else DOCUMENT_LENGTH
    length = min(fallback, longest or fallback) if wanted is None else wanted
    if length <= extra_tokens:
        reason = f": {extra_tokens} for special tokens, markers and a prompt, 1 for the text" if extra_tokens else ""
        raise UserError(f"model.{side}_length={length}: the minimum is {extra_tokens + 1}{reason}")
    return length
