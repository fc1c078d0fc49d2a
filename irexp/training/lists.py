"""Each query's own documents in a batch: their targets, and where their embeddings or scores are.

Shapes: B queries, N documents per query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irexp.types import Example

#: A document of an example: its id, its target, and whether it is known to be relevant.
Member = tuple[str, float, bool]

#: A document by its id and its prompt, None for the model's own: with two prompts in a batch it is two texts.
Text = tuple[str, str | None]


@dataclass
class Lists:
    """Each query's own documents.

    Attributes:
        target_BN: relevance or a teacher's score; documents with NaN are ignored.
        column_BN: the documents' positions among those of all processes; column 0 is the positive.
        is_relevant_BN: which are known to be relevant; None if that is known of none.
    """

    target_BN: Tensor
    column_BN: Tensor
    is_relevant_BN: Tensor | None = None

    def to(self, device: torch.device) -> Lists:
        """The lists on a device."""
        is_relevant_BN = None if self.is_relevant_BN is None else self.is_relevant_BN.to(device)
        return Lists(self.target_BN.to(device), self.column_BN.to(device), is_relevant_BN)

    def best_column(self) -> Tensor:
        """best_B1: the column of the document with the largest target of each query."""
        place_B1 = self.target_BN.masked_fill(self.target_BN.isnan(), -torch.inf).argmax(dim=1, keepdim=True)
        return self.column_BN.gather(1, place_B1)

    def without_relevant(self) -> Tensor:
        """target_BN, with NaN for documents known to be relevant whose target is not the largest of the query's."""
        if self.is_relevant_BN is None:
            return self.target_BN
        best_B1 = self.target_BN.nan_to_num(-torch.inf).amax(dim=1, keepdim=True)
        return self.target_BN.masked_fill(self.is_relevant_BN & (self.target_BN < best_B1), torch.nan)


def padded_lists(rows: Sequence[Sequence[Member]], columns: Sequence[Sequence[int]], longest: int) -> Lists:
    """The documents of each query with their positions, padded to a number of documents."""
    target_BN = torch.full((len(rows), longest), torch.nan)
    column_BN = torch.zeros((len(rows), longest), dtype=torch.int64)
    is_relevant_BN = torch.zeros((len(rows), longest), dtype=torch.bool)
    for row, (members, places) in enumerate(zip(rows, columns, strict=True)):
        for n, ((_, target, is_relevant), column) in enumerate(zip(members, places, strict=True)):
            target_BN[row, n], column_BN[row, n], is_relevant_BN[row, n] = target, column, is_relevant
    return Lists(target_BN, column_BN, is_relevant_BN)


def text_columns(examples: Sequence[Example]) -> dict[Text, int]:
    """The position of each document among those of the examples, each once."""
    texts = dict.fromkeys((doc_id, example.document_prompt) for example in examples for doc_id in example.doc_ids)
    return {text: position for position, text in enumerate(texts)}


def has_grades(example: Example) -> bool:
    """Whether its targets may be grades of relevance: whole numbers from 0."""
    return all(target >= 0 and float(target).is_integer() for target in example.targets)


def sharing_best(example: Example) -> set[str]:
    """The documents that share the target of the first one, if none has a larger one."""
    first = example.targets[0]
    if max(example.targets) > first:
        return set()
    return {doc_id for doc_id, target in zip(example.doc_ids, example.targets, strict=True) if target == first}
