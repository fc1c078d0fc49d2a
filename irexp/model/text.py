"""From texts to padded token ids, the same way for every model.

Shapes: B texts, L tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import processors
from torch import Tensor

from irexp.types import Tokens, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What is read of a text if neither the configuration nor the checkpoint says.
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 256


def as_texts(texts: Sequence[str], what: str) -> list[str]:
    """A list of texts.

    Args:
        texts: what a caller gave for one.
        what: what the caller knows it as.

    Raises:
        UserError: if it is a single text, of which each character would be one, or holds something other than texts.
    """
    if isinstance(texts, str | bytes):
        raise UserError(f"{what} is a single text, where a list of them is needed: [{texts[:20]!r}]")
    found = list(texts)
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"{what}[{place}] is not a text but of the type {type(text).__name__}")
    return found


@contextmanager
def naming_faults(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[None]:
    """Turn the errors of a tokenizer into messages; they have no class of their own, and a panic is not an Exception.

    Args:
        tokenizer: what is called.
        texts: what is tokenized.

    Raises:
        UserError: naming the tokenizer, and the text if it is to blame.
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
                f"the text {broken[0][:80]!r} has half a character in it, which no tokenizer reads"
            ) from error
        if type(error) is TypeError:
            raise
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} fails{' and would end the process' if is_panic else ''} "
            f"({error}): it lacks an unknown token, or was put together from parts that do not go together; take "
            f"another backbone, or correct its tokenizer.json"
        ) from error


def _is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8; halves of surrogate pairs, which JSON lets through, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int | None) -> list[list[int]]:
    """Token ids with the special tokens, cut to a length; a text without any gets the end token, so that it is one."""
    if not texts:
        return []
    limits = {"truncation": True, "max_length": length} if length else {"truncation": False}
    with naming_faults(tokenizer, texts):
        encoded = tokenizer(list(texts), padding=False, return_attention_mask=False, verbose=False, **limits)
    return [ids or [tokenizer.eos_token_id or tokenizer.unk_token_id or 0] for ids in encoded["input_ids"]]


def end_with_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer put its end token after every text, as it will be saved; one that does it already is left alone.

    Raises:
        UserError: if it has none.
    """
    end, end_id = tokenizer.eos_token, tokenizer.eos_token_id
    if end is None:
        raise UserError("model.append_eos=true: the backbone's tokenizer has no end token")
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
    """Put the end token into a post-processor's template, and return it; None if it has none that adds tokens.

    A second template after one that does, as Gemma's with <bos>, would make the tokenizers library panic.
    """
    if said["type"] == "Sequence":
        is_changed = any(_with_end(part, end, end_id) for part in reversed(said["processors"]))  # the last one alone
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
    """Texts cut behind their first `length` tokens: characters are dropped and none is changed."""
    if not texts:
        return []
    options = {"return_offsets_mapping": True, "return_attention_mask": False, "verbose": False}
    with naming_faults(tokenizer, texts):
        encoded = tokenizer(list(texts), add_special_tokens=False, **options)
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
