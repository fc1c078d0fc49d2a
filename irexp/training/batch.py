"""Training batches as a pure function of the seed and the batch's number.

So a resumed training needs no sampler state: the batch's number is the state. Every process computes the ids of the
whole batch, so that known positives on other devices are not used as negatives, and tokenizes only its own share of the
queries and documents.

Shapes: B queries of this process, N documents per query, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from irexp.dataset.collection import Documents, Examples
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.training.buckets import by_length
from irexp.types import Example, Tokens, UserError


@dataclass
class Batch:
    """One process's share of a batch.

    Attributes:
        queries: its queries.
        documents: its share of the documents, without duplicates.
        target_BN: relevance or a teacher's score; documents with NaN are ignored. With in-batch negatives N is the
            number of documents of all processes, in order of their ranks, and the target is 1 for the example's first
            document, else 0. Without them N is the number of documents of the longest example.
        column_BN: the positions of each query's own documents in `documents`; None with in-batch negatives.
        is_new_N: whether no process of lower rank has the document, so that each counts once; None if all count.
    """

    queries: Tokens
    documents: Tokens
    target_BN: Tensor
    column_BN: Tensor | None
    is_new_N: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        column_BN = None if self.column_BN is None else self.column_BN.to(device)
        is_new_N = None if self.is_new_N is None else self.is_new_N.to(device)
        return Batch(self.queries.to(device), self.documents.to(device), self.target_BN.to(device), column_BN, is_new_N)


@dataclass
class PairBatch:
    """One process's share of a batch, for a cross-encoder.

    Attributes:
        pairs: its queries, each paired with its documents.
        sizes: the number of pairs per query.
        target_BN: relevance or a teacher's score; documents with NaN are ignored.
        column_BN: the positions of each query's pairs in `pairs`.
    """

    pairs: Tokens
    sizes: list[int]
    target_BN: Tensor
    column_BN: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """The batch on a device."""
        return PairBatch(self.pairs.to(device), self.sizes, self.target_BN.to(device), self.column_BN.to(device))


class Batches(Dataset[Batch | PairBatch]):
    """All batches of a training run, by number."""

    def __init__(
        self,
        examples: Examples,
        documents: Documents,
        model: Model,
        *,
        size: int,
        in_batch: bool,
        seed: int,
        negatives: int | None = None,
        unknown: Collection[str] = frozenset(),
        rank: int = 0,
        world_size: int = 1,
        lengths: NDArray[np.int64] | None = None,
        length_buckets: int | None = None,
    ) -> None:
        """Select the usable examples; no text is read yet.

        Args:
            examples: the training examples.
            documents: the collection with the documents' texts.
            model: tokenizes the texts.
            size: queries per batch, over all processes.
            in_batch: whether each query is also compared with the documents of the other queries.
            seed: decides the order of each epoch, and which negatives are drawn.
            negatives: the number of an example's negatives drawn at each step; None for all.
            unknown: ids of documents missing from the collection; an example is left out if its first document is one.
            rank: the number of this process.
            world_size: the number of processes.
            lengths: of each example, for `length_buckets`.
            length_buckets: batches of a mega-batch, within which batches have similar lengths; None for any lengths.

        Raises:
            UserError: if no example is usable.
        """
        self._examples, self._documents, self._model = examples, documents, model
        self._size, self._in_batch, self._seed = size, in_batch, seed
        self._negatives, self._unknown, self._rank, self._world_size = negatives, unknown, rank, world_size
        self._lengths, self._length_buckets = lengths, length_buckets
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._usable = np.arange(len(examples))
        if unknown:
            kept = [position for position in range(len(examples)) if examples[position].doc_ids[0] not in unknown]
            self._usable = np.array(kept, dtype=np.int64)
        if not len(self._usable):
            raise UserError("no training example has its relevant document in the collection; check dataset.train")

    @property
    def examples(self) -> int:
        """The number of examples per epoch."""
        return len(self._usable)

    def __getitem__(self, number: int) -> Batch | PairBatch:
        positions = self.positions(number)
        whole = [self._draw_negatives(self._examples[position], number, row) for row, position in enumerate(positions)]
        share = self._size // self._world_size
        own = whole[self._rank * share : (self._rank + 1) * share]
        if isinstance(self._model, CrossEncoder):
            return self._pairs(self._model, own)
        assert isinstance(self._model, BiEncoder)
        distribute = self._share_with_all if self._in_batch else self._share_own
        mine, earlier, target_BN, column_BN = distribute(whole, own)
        texts = self._documents.get_many(set(mine))
        return Batch(
            self._model.pad(self._model.tokenize_queries([e.query.text for e in own]), is_query=True),
            self._model.pad(self._model.tokenize_documents([texts[d].text for d in mine]), is_query=False),
            target_BN,
            column_BN,
            torch.tensor([doc_id not in earlier for doc_id in mine]) if self._world_size > 1 else None,
        )

    def _draw_negatives(self, example: Example, number: int, row: int) -> Example:
        """An example with a random sample of its negatives."""
        if self._negatives is None or len(example.doc_ids) <= self._negatives + 1:
            return example
        generator = np.random.default_rng([self._seed, number, row])
        drawn = 1 + generator.choice(len(example.doc_ids) - 1, size=self._negatives, replace=False)
        kept = [0, *sorted(drawn.tolist())]
        return Example(example.query, tuple(example.doc_ids[i] for i in kept), tuple(example.targets[i] for i in kept))

    def _pairs(self, model: CrossEncoder, own: list[Example]) -> PairBatch:
        """The queries of this process with each of their own documents."""
        lists = [self._targets(e, self._examples.relevant_doc_ids(e.query.query_id)) for e in own]
        texts = self._documents.get_many({doc_id for members in lists for doc_id, _ in members})
        longest = max(map(len, lists))
        target_BN = torch.full((len(own), longest), torch.nan)
        column_BN = torch.zeros((len(own), longest), dtype=torch.int64)
        queries: list[str] = []
        documents: list[str] = []
        for row, (example, members) in enumerate(zip(own, lists, strict=True)):
            for place, (doc_id, target) in enumerate(members):
                target_BN[row, place], column_BN[row, place] = target, len(documents)
                queries.append(example.query.text)
                documents.append(texts[doc_id].text)
        pairs = model.pad(model.tokenize_pairs(queries, documents))
        return PairBatch(pairs, list(map(len, lists)), target_BN, column_BN)

    def positions(self, number: int) -> list[int]:
        """The positions of a batch's examples; a batch may span two epochs."""
        first = number * self._size
        places = range(first, first + self._size)
        return [int(self._order(place // self.examples)[place % self.examples]) for place in places]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            generator = np.random.default_rng([self._seed, epoch])
            shuffled = generator.permutation(self._usable)
            if self._lengths is not None and self._length_buckets is not None:
                begun = -epoch * self.examples % self._size
                size, batches = self._size, self._length_buckets
                shuffled = by_length(
                    shuffled, self._lengths, size=size, batches=batches, begun=begun, generator=generator
                )
            self._orders = {**{known: o for known, o in self._orders.items() if known == epoch - 1}, epoch: shuffled}
        return self._orders[epoch]

    def _share_with_all(self, whole: list[Example], own: list[Example]) -> tuple[list[str], set[str], Tensor, None]:
        """The documents of this process, those of lower ranks, and targets over all documents of the batch.

        The target is 1 for the example's first document, else 0, since a teacher has not scored other queries'
        documents.
        """
        doc_ids = list(dict.fromkeys(d for example in whole for d in example.doc_ids if d not in self._unknown))
        share = math.ceil(len(doc_ids) / self._world_size)
        mine = doc_ids[self._rank * share : (self._rank + 1) * share]
        mine += [doc_ids[0]] * (share - len(mine))  # as many per process; duplicates have no target
        target_BN = torch.full((len(own), share * self._world_size), torch.nan)
        target_BN[:, : len(doc_ids)] = 0.0
        column = {doc_id: position for position, doc_id in enumerate(doc_ids)}
        for row, example in enumerate(own):
            relevant = self._examples.relevant_doc_ids(example.query.query_id)
            for doc_id in relevant & column.keys():
                target_BN[row, column[doc_id]] = torch.nan
            target_BN[row, column[example.doc_ids[0]]] = 1.0
        return mine, set(doc_ids[: self._rank * share]), target_BN, None

    def _share_own(self, whole: list[Example], own: list[Example]) -> tuple[list[str], set[str], Tensor, Tensor]:
        """The documents of this process, those of lower ranks, and each query's targets and columns."""
        mine = list(dict.fromkeys(d for example in own for d in example.doc_ids if d not in self._unknown))
        column = {doc_id: position for position, doc_id in enumerate(mine)}
        longest = max(len(example.doc_ids) for example in own)
        target_BN = torch.full((len(own), longest), torch.nan)
        column_BN = torch.zeros((len(own), longest), dtype=torch.int64)
        for row, example in enumerate(own):
            targets = self._targets(example, self._examples.relevant_doc_ids(example.query.query_id))
            for place, (doc_id, target) in enumerate(targets):
                target_BN[row, place], column_BN[row, place] = target, column[doc_id]
        earlier = {doc_id for example in whole[: self._rank * len(own)] for doc_id in example.doc_ids}
        return mine, earlier, target_BN, column_BN

    def _targets(self, example: Example, relevant: Collection[str]) -> list[tuple[str, float]]:
        """An example's documents with their targets, less unknown ones and negatives known to be relevant."""
        return [
            (doc_id, target)
            for place, (doc_id, target) in enumerate(zip(example.doc_ids, example.targets, strict=True))
            if doc_id not in self._unknown and (place == 0 or target != 0.0 or doc_id not in relevant)
        ]


def unknown_documents(examples: Examples, documents: Documents) -> set[str]:
    """The ids of documents that occur in examples but not in the collection."""
    named = sorted(examples.doc_ids())
    unknown: set[str] = set()
    for start in range(0, len(named), 10_000):
        chunk = named[start : start + 10_000]
        unknown.update(set(chunk).difference(documents.get_many(chunk)))
    return unknown
