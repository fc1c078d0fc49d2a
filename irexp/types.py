"""The records that every floor shares: ids, texts and tensors, next to no behaviour.

Names of records and fields are those of ir_datasets and ir_measures, so that nothing is renamed on the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # configuration and identity import this module and stay free of torch
    import torch
    from torch import Tensor


class UserError(ValueError):
    """What the user can mend: the message says what is wrong, where, and how to mend it; no traceback is shown."""


#: What a model makes of a text, and what an engine takes: vectors of a kind, or the text itself.
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
    """Why an engine cannot search what a model makes, and which one can; None if it can.

    Args:
        engine: the engine's class.
        takes: what it takes.
        made: what the model makes; "text" without a model.
    """
    if takes == made:
        return None
    makes = "no vectors" if made == "text" else _WORDS[made]
    return (
        f"the model makes {makes} and {engine} takes {_WORDS[takes]}; index={EXACT[made]} is an exact engine for this "
        f"model"
    )


#: Blanks, as TREC's tools know them: a no-break space is a character like any other.
BLANKS = " \t\n\r\v\f"

#: The largest grade of relevance: trec_eval keeps a counter for each grade up to the largest one of a query.
MOST_RELEVANT = 10**6

#: What ends a line or a column, ends a string in C, or is half of a character.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def as_id(text: str) -> str:
    """The id of a document or query that a file holds as `text`, the same for every format.

    Blanks around an id do not belong to it. Blanks within do: the columns of irexp's own run files are separated by
    tabs. What a run file cannot hold is refused: nothing at all, and control characters such as tabs and line breaks.

    Raises:
        ValueError: saying what is wrong, for a message that says where.
    """
    found = text.strip(BLANKS)
    if not found.strip():
        raise ValueError("the id is empty")
    if broken := _BREAKS.search(found):
        raise ValueError(
            f"the id {found[:80]!r} holds {broken[0]!r}, which no run file can hold; replace it everywhere"
        )
    return found


class Document(NamedTuple):
    """A document; `text` is what is encoded, with the title in front where the collection has one."""

    doc_id: str
    text: str


class Query(NamedTuple):
    """A query."""

    query_id: str
    text: str


class Qrel(NamedTuple):
    """A relevance judgement; a `relevance` above zero is relevant."""

    query_id: str
    doc_id: str
    relevance: int


class ScoredDoc(NamedTuple):
    """A line of a run."""

    query_id: str
    doc_id: str
    score: float


class Example(NamedTuple):
    """What one training step sees of one query: document ids, the positive first, and a target for each.

    A target is a relevance (1 for the positive, 0 for a negative) or a teacher's score.
    """

    query: Query
    doc_ids: tuple[str, ...]
    targets: tuple[float, ...]


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences.

    `pooling_mask_BL` is the attention mask less what takes no part in the embedding: a prompt, where the checkpoint
    says so; punctuation, where the model says so. `type_ids_BL` tells the document from the query in a pair.
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
    """One vector a text, in fp32 unless autocast says otherwise: dense, or with a dimension for each word."""

    vectors_BH: Tensor


@dataclass(frozen=True)
class TokenEmbeddings:
    """A vector for some tokens of a text.

    `mask_BL` says which count; with `token_ids_BL` only vectors of the same token are compared.
    """

    vectors_BLH: Tensor
    mask_BL: Tensor
    token_ids_BL: Tensor | None = None
