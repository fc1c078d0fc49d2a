"""The records that every floor shares: ids, texts and tensors, next to no behaviour.

Names of records and fields are those of ir_datasets and ir_measures, so that nothing is renamed on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # configuration and identity import this module and stay free of torch
    import torch
    from torch import Tensor


class UserError(ValueError):
    """What the user can mend: the message says what is wrong, where, and how to mend it; no traceback is shown."""


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

    `pooling_mask_BL` is the attention mask less what pooling leaves out (a prompt, where the checkpoint says so).
    """

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    pooling_mask_BL: Tensor

    def to(self, device: torch.device) -> Tokens:
        """The batch on a device."""
        return Tokens(
            self.input_ids_BL.to(device, non_blocking=True),
            self.attention_mask_BL.to(device, non_blocking=True),
            self.pooling_mask_BL.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class Embeddings:
    """What a bi-encoder makes of a batch of texts: one vector each, in fp32 unless autocast says otherwise."""

    vectors_BH: Tensor
