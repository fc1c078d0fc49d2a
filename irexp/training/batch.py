"""Training batches as a pure function of the seed and the batch's number.

So a resumed training needs no sampler state: the batch's number is the state. Every process computes the ids of the
whole batch, so that known positives on other devices are not used as negatives, and tokenizes only its own share of the
queries and documents.

Shapes: B queries of this process, N documents per query, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from irexp.dataset.collection import Documents, Examples
from irexp.dataset.draw import Draw
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.training.buckets import by_length
from irexp.training.false_negatives import by_text, same_texts
from irexp.training.lists import Lists, Member, Text, has_grades, padded_lists, sharing_best, text_columns
from irexp.training.mixed_order import MixedOrder
from irexp.training.prompts import padded, padded_pairs
from irexp.types import Example, Tokens, UserError

#: All negatives of each example.
ALL = Draw()

#: Texts, and the prompt of each or none at all; without one, the model's own.
Prompted = tuple[list[str], list[str | None]]


@dataclass
class Batch:
    """One process's share of a batch.

    Attributes:
        queries: its queries.
        documents: its share of the documents, without duplicates.
        target_BN: relevance or a teacher's score; documents with NaN are ignored. With in-batch negatives N is the
            number of documents of all processes, in order of their ranks, and the target is 1 for the example's first
            document, NaN for others that are as good or known to be relevant, else 0. Without them N is the number of
            documents of the longest example.
        column_BN: the positions of each query's own documents in `documents`; None with in-batch negatives.
        is_new_N: whether no process of lower rank has the document, so that each counts once; None if all count.
        lists: each query's own documents; None if target_BN and column_BN say all that is known of them.
        guide: the queries and documents as the guide reads them; None without a guide.
    """

    queries: Tokens
    documents: Tokens
    target_BN: Tensor
    column_BN: Tensor | None
    is_new_N: Tensor | None = None
    lists: Lists | None = None
    guide: tuple[Tokens, Tokens] | None = None

    def own(self) -> Lists:
        """The targets and columns of each query's own documents."""
        if self.lists is not None:
            return self.lists
        assert self.column_BN is not None
        return Lists(self.target_BN, self.column_BN)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(
            self.queries.to(device),
            self.documents.to(device),
            self.target_BN.to(device),
            None if self.column_BN is None else self.column_BN.to(device),
            None if self.is_new_N is None else self.is_new_N.to(device),
            None if self.lists is None else self.lists.to(device),
            None if self.guide is None else (self.guide[0].to(device), self.guide[1].to(device)),
        )


@dataclass
class PairBatch:
    """One process's share of a batch, for a cross-encoder.

    Attributes:
        pairs: its queries, each paired with its documents.
        sizes: the number of pairs per query.
        lists: the targets of each query's documents, and the positions of its pairs in `pairs`.
    """

    pairs: Tokens
    sizes: list[int]
    lists: Lists

    def to(self, device: torch.device) -> PairBatch:
        """The batch on a device."""
        return PairBatch(self.pairs.to(device), self.sizes, self.lists.to(device))

    @property
    def target_BN(self) -> Tensor:
        """Relevance or a teacher's score; documents with NaN are ignored."""
        return self.lists.target_BN


#: The documents known to be relevant to each query.
Relevant = Mapping[str, frozenset[str]]


def _tokenized(model: BiEncoder, queries: Prompted, documents: Prompted) -> tuple[Tokens, Tokens]:
    """The queries and documents as a model reads them."""
    return padded(model, *queries, is_query=True), padded(model, *documents, is_query=False)


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
        negatives: Draw = ALL,
        unknown: Collection[str] = frozenset(),
        same_text: bool = False,
        guide: BiEncoder | None = None,
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
            negatives: which of an example's negatives are used at each step.
            unknown: ids of documents missing from the collection; an example is left out if its positive is one, or
                fewer than two others remain.
            same_text: whether a document with the text of a relevant one is left out like that one.
            guide: a model that scores the batch, too; None for none.
            rank: the number of this process.
            world_size: the number of processes.
            lengths: of each example, for `length_buckets`.
            length_buckets: batches of a mega-batch, within which batches have similar lengths; None for any lengths.

        Raises:
            UserError: if no example is usable.
        """
        self._examples, self._documents, self._model = examples, documents, model
        self._size, self._in_batch, self._seed = size, in_batch, seed
        self._negatives, self._unknown, self._rank, self._world_size = negatives, frozenset(unknown), rank, world_size
        self._same_text, self._guide = same_text, guide
        self._lengths, self._length_buckets = lengths, length_buckets
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._usable = np.arange(len(examples))
        if unknown:
            kept = [position for position in range(len(examples)) if self._is_usable(position)]
            self._usable = np.array(kept, dtype=np.int64)
        if not len(self._usable):
            raise UserError("no training example has its relevant document in the collection; check dataset.train")
        mixture = examples.mixture
        self._mixed = None if mixture is None else MixedOrder(mixture, self._usable, size=size, seed=seed)

    @property
    def examples(self) -> int:
        """The number of examples per epoch."""
        return len(self._usable) if self._mixed is None else self._mixed.examples

    def __getitem__(self, number: int) -> Batch | PairBatch:
        positions = self.positions(number)
        whole = [self._draw_negatives(position, number, row) for row, position in enumerate(positions)]
        share = self._size // self._world_size
        own = whole[self._rank * share : (self._rank + 1) * share]
        relevant = self._relevant(whole if self._in_batch else own, own)
        if isinstance(self._model, CrossEncoder):
            return self._pairs(self._model, own, relevant)
        assert isinstance(self._model, BiEncoder)
        distribute = self._share_with_all if self._in_batch else self._share_own
        mine, earlier, target_BN, lists = distribute(whole, own, relevant)
        texts = self._documents.get_many({doc_id for doc_id, _ in mine})
        queries = [e.query.text for e in own], [e.query_prompt for e in own]
        documents = [texts[doc_id].text for doc_id, _ in mine], [prompt for _, prompt in mine]
        return Batch(
            *_tokenized(self._model, queries, documents),
            target_BN,
            None if self._in_batch else lists.column_BN,
            torch.tensor([text not in earlier for text in mine]) if self._world_size > 1 else None,
            lists,
            _tokenized(self._guide, (queries[0], []), (documents[0], [])) if self._guide is not None else None,
        )

    def _is_usable(self, position: int) -> bool:
        example = self._examples[position]
        if not self._examples.begins_with_positive(position):
            return sum(doc_id not in self._unknown for doc_id in example.doc_ids) > 1
        return example.doc_ids[0] not in self._unknown or bool(self._known(example, position))

    def _known(self, example: Example, position: int) -> list[int]:
        """The places of an example's documents that have a text, the positive first; empty without any.

        In place of a positive without a text, the relevant document with the next grade is one.
        """
        known = [n for n, doc_id in enumerate(example.doc_ids) if doc_id not in self._unknown]
        if known[:1] == [0] or not self._examples.begins_with_positive(position):
            return known
        graded = [n for n in known if example.targets[n] > 0] if has_grades(example) else []
        relevant = self._examples.relevant_doc_ids(example.query.query_id) if graded else frozenset()
        best = sorted((n for n in graded if example.doc_ids[n] in relevant), key=lambda n: -example.targets[n])[:1]
        return [*best, *(n for n in known if n not in best)] if best else []

    def _relevant(self, compared: list[Example], own: list[Example]) -> Relevant:
        """By query, the documents known to be relevant, and those that are compared and have the text of one."""
        known = {query_id: self._examples.relevant_doc_ids(query_id) for query_id in {e.query.query_id for e in own}}
        if not self._same_text:
            return known
        for example in own:
            known[example.query.query_id] |= {example.doc_ids[0]}
        doc_ids = {doc_id for example in compared for doc_id in example.doc_ids}
        with_text = by_text(doc_ids, texts := self._documents.get_many(doc_ids.union(*known.values())))
        return {query_id: ids | same_texts(ids, with_text, texts) for query_id, ids in known.items()}

    def _draw_negatives(self, position: int, number: int, row: int) -> Example:
        """An example with some of its negatives, a new sample at each step, of documents that have a text."""
        example = self._examples[position]
        if not self._unknown.isdisjoint(example.doc_ids):
            known = self._known(example, position)
            targets = tuple(example.targets[n] for n in known)
            example = example._replace(doc_ids=tuple(example.doc_ids[n] for n in known), targets=targets)
        is_asked = self._negatives.sampler == "single_relevant"
        relevant = self._examples.relevant_doc_ids(example.query.query_id) if is_asked else frozenset()
        is_first = self._examples.begins_with_positive(position)
        return self._negatives(example, [self._seed, number, row], is_positive_first=is_first, relevant=relevant)

    def _pairs(self, model: CrossEncoder, own: list[Example], relevant: Relevant) -> PairBatch:
        """The queries of this process with each of their own documents."""
        kept = [self._targets(e, relevant[e.query.query_id]) for e in own]
        texts = self._documents.get_many({doc_id for members in kept for doc_id, _, _ in members})
        queries = [example.query.text for example, members in zip(own, kept, strict=True) for _ in members]
        documents = [texts[doc_id].text for members in kept for doc_id, _, _ in members]
        prompts = [example.query_prompt for example, members in zip(own, kept, strict=True) for _ in members]
        sizes = list(map(len, kept))
        number = count()
        columns = [[next(number) for _ in members] for members in kept]
        return PairBatch(
            padded_pairs(model, queries, documents, prompts), sizes, padded_lists(kept, columns, max(sizes))
        )

    def positions(self, number: int) -> list[int]:
        """The positions of a batch's examples; a batch may span two epochs."""
        if self._mixed is not None:
            return self._mixed.positions(number)
        first = number * self._size
        places = range(first, first + self._size)
        return [int(self._order(place // len(self._usable))[place % len(self._usable)]) for place in places]

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

    def _share_with_all(
        self, whole: list[Example], own: list[Example], relevant: Relevant
    ) -> tuple[list[Text], set[Text], Tensor, Lists]:
        """The documents of this process, those of lower ranks, targets over all documents of the batch, and lists.

        The target is 1 for the example's first document, else 0, since a teacher has not scored other queries'
        documents; those of its own that share the largest target are left out, as relevant ones are.
        """
        column = text_columns(whole)
        documents = list(column)
        columns_of: dict[str, list[int]] = {}
        for place, (doc_id, _) in enumerate(documents):
            columns_of.setdefault(doc_id, []).append(place)
        share = math.ceil(len(documents) / self._world_size)
        mine = documents[self._rank * share : (self._rank + 1) * share]
        mine += [documents[0]] * (share - len(mine))  # as many per process; duplicates have no target
        target_BN = torch.full((len(own), share * self._world_size), torch.nan)
        target_BN[:, : len(documents)] = 0.0
        for row, example in enumerate(own):
            left_out = (columns_of.keys() & relevant[example.query.query_id]) | sharing_best(example)
            if not example.in_batch:
                left_out |= columns_of.keys() - set(example.doc_ids)
            for doc_id in left_out:
                target_BN[row, columns_of[doc_id]] = torch.nan
            target_BN[row, column[example.doc_ids[0], example.document_prompt]] = 1.0
        return mine, set(documents[: self._rank * share]), target_BN, self._lists(own, column, relevant)

    def _share_own(
        self, whole: list[Example], own: list[Example], relevant: Relevant
    ) -> tuple[list[Text], set[Text], Tensor, Lists]:
        """The documents of this process, those of lower ranks, and each query's targets, alone and with columns."""
        column = text_columns(own)
        lists = self._lists(own, column, relevant)
        return list(column), set(text_columns(whole[: self._rank * len(own)])), lists.target_BN, lists

    def _lists(self, own: list[Example], column: Mapping[Text, int], relevant: Relevant) -> Lists:
        """Each query's own documents, padded to the longest list; `column` is a document's position."""
        kept = [self._targets(example, relevant[example.query.query_id]) for example in own]
        columns = [
            [column[doc_id, example.document_prompt] for doc_id, _, _ in members]
            for example, members in zip(own, kept, strict=True)
        ]
        return padded_lists(kept, columns, max(len(example.doc_ids) for example in own))

    def _targets(self, example: Example, relevant: Collection[str]) -> list[Member]:
        """An example's documents, less negatives known to be relevant; among a teacher's scores 0 is one as any."""
        are_grades = has_grades(example)
        return [
            (doc_id, target, doc_id in relevant)
            for place, (doc_id, target) in enumerate(zip(example.doc_ids, example.targets, strict=True))
            if place == 0 or target != 0.0 or not are_grades or doc_id not in relevant
        ]
