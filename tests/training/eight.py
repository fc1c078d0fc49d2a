"""Examples over eight documents, and training batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from irexp.dataset.collection import Documents, Examples
from irexp.model.bi_encoder import BiEncoder
from irexp.training.batch import Batch, Batches
from irexp.types import Document, Example, Query

ROOT = Path(__file__).parents[2]
BACKBONE = instantiate(OmegaConf.load(ROOT / "conf" / "backbone" / "splade_tiny.yaml"))

#: Query 0 has two relevant documents, 0 and 1; every other query i has the document i + 1.
RELEVANT = {"q0": {"d0", "d1"}, **{f"q{i}": {f"d{i + 1}"} for i in range(1, 7)}}


class Eight(Documents):
    """Documents d0 … d7."""

    def __iter__(self) -> Iterator[Document]:
        return (Document(f"d{i}", f"text number {i}") for i in range(8))

    def count(self) -> int:
        """Eight."""
        return 8

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """The requested documents that exist."""
        known = {document.doc_id: document for document in self}
        return {doc_id: known[doc_id] for doc_id in doc_ids if doc_id in known}


class Listed(Examples):
    """Examples from a list."""

    def __init__(self, *examples: tuple[str, tuple[str, ...], tuple[float, ...]]) -> None:
        """Query id, document ids and targets of each example."""
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, position: int) -> Example:
        query_id, doc_ids, targets = self._examples[position]
        return Example(Query(query_id, f"question {query_id}"), doc_ids, targets)

    def doc_ids(self) -> set[str]:
        """The ids of all examples' documents."""
        return {doc_id for _, doc_ids, _ in self._examples for doc_id in doc_ids}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The ids in RELEVANT."""
        return frozenset(RELEVANT[query_id])


PAIRS = Listed(*((q, (d,), (1.0,)) for q, doc_ids in RELEVANT.items() for d in sorted(doc_ids)))


def batches(model: BiEncoder, examples: Examples = PAIRS, **changes: Any) -> Batches:
    """Batches of four queries with in-batch negatives."""
    settings = {"size": 4, "in_batch": True, "seed": 1} | changes
    return Batches(examples, Eight(), model, **settings)


def first(made: Batches) -> Batch:
    """The first batch of a bi-encoder."""
    return batch_of(made, 0)


def batch_of(made: Batches, number: int) -> Batch:
    """A batch of a bi-encoder."""
    batch = made[number]
    assert isinstance(batch, Batch)
    return batch
