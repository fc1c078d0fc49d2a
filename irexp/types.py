"""The records that all packages share: ids, texts and tensors, with almost no behaviour.

Records and fields are named as in ir_datasets and ir_measures, so that nothing has to be renamed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # configuration and identity import this module and stay free of torch
    import torch
    from torch import Tensor


class UserError(ValueError):
    """An error that the user can fix: its message says what is wrong, where, and how to fix it; without a traceback."""


#: A model's output for a text and an engine's input: one kind of vectors, or the text itself.
Representation = Literal["dense", "sparse", "tokens", "text"]

_WORDS: dict[Representation, str] = {
    "dense": "dense vectors",
    "sparse": "sparse vectors",
    "tokens": "vectors for each token",
    "text": "texts",
}

#: The exact engine for each kind, an option of conf/index.
EXACT: dict[Representation, str] = {"dense": "faiss_flat", "sparse": "sparse", "tokens": "maxsim", "text": "bm25"}


def engine_fault(engine: str, takes: Representation, made: Representation) -> str | None:
    """Why an engine cannot search a model's output, and which engine can; None if it can.

    Args:
        engine: the engine's class.
        takes: the engine's input.
        made: the model's output; "text" without a model.
    """
    if takes == made:
        return None
    makes = "no vectors" if made == "text" else _WORDS[made]
    return (
        f"the model makes {makes} and {engine} takes {_WORDS[takes]}; index={EXACT[made]} is an exact engine for this "
        f"model"
    )


#: Whitespace as TREC's tools define it: a no-break space does not belong to it.
WHITESPACE = " \t\n\r\v\f"

#: The largest relevance grade: trec_eval keeps a counter for each grade up to the largest one of a query.
MOST_RELEVANT = 10**6

#: Control characters, line separators and surrogates: they would break a line or a column, or cannot be encoded.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def as_id(text: str) -> str:
    """The id of a document or query that a file holds as `text`, the same for every format.

    Whitespace around an id is removed. Spaces within it are kept: irexp's own run files separate columns by tabs. An
    id that a run file cannot hold is an error: an empty one, or one with a control character such as a line break.

    Raises:
        ValueError: saying what is wrong; the caller adds where.
    """
    if text.isascii() and text.isprintable() and text and text[0] != " " != text[-1]:
        return text  # most ids, in a fifth of the time
    found = text.strip(WHITESPACE)
    if not found.strip():
        raise ValueError("the id is empty")
    if broken := _BREAKS.search(found):
        raise ValueError(
            f"the id {found[:80]!r} holds {broken[0]!r}, which no run file can hold; replace it everywhere"
        )
    return found


class Document(NamedTuple):
    """A document; `text` is the encoded text, which begins with the title if the collection has titles."""

    doc_id: str
    text: str


class Query(NamedTuple):
    """A query."""

    query_id: str
    text: str


class Qrel(NamedTuple):
    """A relevance judgement; a `relevance` above zero means relevant."""

    query_id: str
    doc_id: str
    relevance: int


class ScoredDoc(NamedTuple):
    """One line of a run."""

    query_id: str
    doc_id: str
    score: float


class Example(NamedTuple):
    """A training example: a query, its document ids (the positive first), and a target for each of them.

    A target is a relevance (1 for the positive, 0 for a negative) or a teacher's score. The prompts are put in front of
    the texts instead of the model's own prompts; None for the model's own. Without `in_batch` the documents of other
    queries are not its negatives, whatever the loss compares.
    """

    query: Query
    doc_ids: tuple[str, ...]
    targets: tuple[float, ...]
    query_prompt: str | None = None
    document_prompt: str | None = None
    in_batch: bool = True


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences.

    `pooling_mask_BL` is the attention mask without the tokens that the embedding ignores: a prompt, if the checkpoint
    says so; punctuation, if the model says so. `type_ids_BL` separates query and document in a pair.
    """

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    pooling_mask_BL: Tensor
    type_ids_BL: Tensor | None = None

    def to(self, device: torch.device) -> Tokens:
        """The batch on a device."""
        return Tokens(
            self.input_ids_BL.to(device, non_blocking=True),
            self.attention_mask_BL.to(device, non_blocking=True),
            self.pooling_mask_BL.to(device, non_blocking=True),
            None if self.type_ids_BL is None else self.type_ids_BL.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class Embeddings:
    """One vector per text, in fp32 outside of autocast: dense, or with one dimension per vocabulary entry."""

    vectors_BH: Tensor


@dataclass(frozen=True)
class TokenEmbeddings:
    """One vector per token.

    `mask_BL` selects the tokens that count; with `token_ids_BL` only vectors of the same token are compared.
    """

    vectors_BLH: Tensor
    mask_BL: Tensor
    token_ids_BL: Tensor | None = None
