"""Several training sets, mixed, each with its own collection, prompts and weight.

Ids get the name of their set in front, so that equal ids of two collections stay apart. A document that two sets
share is therefore two documents; within a batch it may be a negative of the other set's query.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np

from irexp.dataset.collection import DataError, Documents, Examples, Mixing, Mixture
from irexp.types import Document, Example, Query

#: Between the name of a set and an id; it is in no name.
_SEPARATOR = ": "


class TrainingSet:
    """One of several sets of training examples."""

    def __init__(
        self,
        examples: Examples,
        *,
        documents: Documents | None = None,
        weight: float = 1.0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        in_batch: bool | None = None,
    ) -> None:
        """Reads nothing.

        Args:
            examples: its examples.
            documents: their collection; None for that of the dataset, or if the examples hold their texts.
            weight: how often each of its examples is visited per epoch, such as 0.5 for every second epoch; with
                mixing=round_robin the number of its batches per turn.
            query_prompt: text put in front of its queries in place of the model's query prompt; None for the model's.
            document_prompt: the same of its documents.
            in_batch: whether the documents of a batch's other queries are negatives, if the loss compares them; False
                where many of them would be relevant, as in classification or clustering. None for yes.

        Raises:
            DataError: if the weight is not above 0.
        """
        if not weight > 0:
            raise DataError(f"weight={weight} of a training set must be above 0; remove the set to leave it out")
        self.examples, self.documents, self.weight = examples, documents, weight
        self.prompts = query_prompt, document_prompt
        self.in_batch = in_batch is not False


class MixedExamples(Examples):
    """The examples of several sets, one set after the other by name; `mixture` says how a training mixes them."""

    def __init__(self, sets: Mapping[str, TrainingSet | None], *, mixing: Mixing = "proportional") -> None:
        """Reads nothing before the first example is requested.

        Args:
            sets: the sets by name; null leaves one out.
            mixing: proportional: all examples are shuffled together, and each is visited once per epoch, times its
                set's weight. proportional_batches: the same shares, but all examples of a batch are of one set.
                round_robin: the sets take turns, a batch each, whatever their sizes.

        Raises:
            DataError: if there is no set, two have the same name, a name has a colon, or round_robin has a weight that
                is not a whole number.
        """
        by_name = {name: each for name, each in sets.items() if each is not None}
        if not by_name:
            raise DataError("dataset.train.sets names no training set")
        names = sorted(map(str, by_name))
        if twice := [name for name, following in itertools.pairwise(names) if name == following]:
            raise DataError(f"dataset.train.sets: two sets have the name {twice[0]!r}; rename one")
        if bad := [name for name in names if _SEPARATOR.strip() in name]:
            raise DataError(f"dataset.train.sets: the name {bad[0]!r} has a colon; rename the set")
        # their order would change batches, but not the identity
        self._sets = dict(sorted((str(name), each) for name, each in by_name.items()))
        broken = [name for name, each in self._sets.items() if not float(each.weight).is_integer()]
        if mixing == "round_robin" and broken:
            raise DataError(
                f"dataset.train.sets.{broken[0]}.weight={self._sets[broken[0]].weight}: with mixing=round_robin it is "
                f"the number of batches per turn; set a whole number"
            )
        self._mixing = mixing
        self.is_positive_first = all(each.examples.is_positive_first for each in self._sets.values())

    @property
    def mixture(self) -> Mixture:
        """How the sets are mixed; the first call reads them."""
        return self._mixture

    @cached_property
    def _mixture(self) -> Mixture:
        parts = self._sets.values()
        return Mixture(
            self._mixing,
            tuple(len(part.examples) for part in parts),
            tuple(part.weight for part in parts),
            tuple(part.prompts for part in parts),
        )

    def __len__(self) -> int:
        return sum(self.mixture.sizes)

    def _place(self, position: int) -> tuple[str, TrainingSet, int]:
        """The set of an example, with its name, and the position there."""
        ends = np.cumsum(self.mixture.sizes)
        number = int(np.searchsorted(ends, position, "right"))
        return *list(self._sets.items())[number], position - int(ends[number]) + self.mixture.sizes[number]

    def begins_with_positive(self, position: int) -> bool:
        """As in the set of the example."""
        _, part, within = self._place(position)
        return part.examples.begins_with_positive(within)

    def __getitem__(self, position: int) -> Example:
        name, part, within = self._place(position)
        example = part.examples[within]
        query_prompt, document_prompt = part.prompts
        return Example(
            Query(_joined(name, example.query.query_id), example.query.text),
            tuple(_joined(name, doc_id) for doc_id in example.doc_ids),
            example.targets,
            example.query_prompt if query_prompt is None else query_prompt,
            example.document_prompt if document_prompt is None else document_prompt,
            example.in_batch and part.in_batch,
        )

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""
        return {_joined(name, doc_id) for name, part in self._sets.items() for doc_id in part.examples.doc_ids()}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents known to be relevant to a query, according to its set."""
        name, _, own = query_id.partition(_SEPARATOR)
        if name not in self._sets:
            return frozenset()
        return frozenset(_joined(name, doc_id) for doc_id in self._sets[name].examples.relevant_doc_ids(own))

    def texts(self, collection: Documents) -> Documents:
        """The texts of each set, in its own collection or that of the dataset."""
        parts = {name: part.examples.texts(part.documents or collection) for name, part in self._sets.items()}
        return _MixedDocuments(parts, collection)

    def unknown_doc_ids(self, collection: Documents) -> set[str]:
        """The ids of the examples' documents that no collection has."""
        return {
            _joined(name, doc_id)
            for name, part in self._sets.items()
            for doc_id in part.examples.unknown_doc_ids(part.documents or collection)
        }


class _MixedDocuments(Documents):
    """The documents of several sets, looked up by ids with the set's name; streamed is the dataset's collection."""

    def __init__(self, parts: Mapping[str, Documents], collection: Documents) -> None:
        self._parts, self._collection = parts, collection

    def __iter__(self) -> Iterator[Document]:
        return iter(self._collection)

    def count(self) -> int | None:
        return self._collection.count()

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        wanted: dict[str, list[str]] = {}
        for doc_id in doc_ids:
            name, separator, own = doc_id.partition(_SEPARATOR)
            if separator and name in self._parts:
                wanted.setdefault(name, []).append(own)
        return {
            _joined(name, doc_id): Document(_joined(name, doc_id), document.text)
            for name, own in wanted.items()
            for doc_id, document in self._parts[name].get_many(own).items()
        }


def _joined(name: str, identifier: str) -> str:
    return f"{name}{_SEPARATOR}{identifier}"
