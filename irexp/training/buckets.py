"""Batches of texts of similar length, which are padded less: an order of an epoch's examples.

A mega-batch of several batches is sorted by length and cut into batches, whose order is shuffled. The larger a
mega-batch, the more similar are lengths, and the less random is which negatives meet in a batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import Documents, Examples

#: Examples whose documents are looked up together.
_CHUNK = 10_000


def text_lengths(examples: Examples, documents: Documents) -> NDArray[np.int64]:
    """The characters of each example's query and first document; a document that does not exist has none.

    All examples are read once. Characters are a cheap estimate of tokens, good enough to sort by.
    """
    lengths = np.zeros(len(examples), dtype=np.int64)
    for start in range(0, len(examples), _CHUNK):
        chunk = [examples[position] for position in range(start, min(start + _CHUNK, len(examples)))]
        texts = documents.get_many({example.doc_ids[0] for example in chunk})
        for row, example in enumerate(chunk):
            first = texts.get(example.doc_ids[0])
            lengths[start + row] = len(example.query.text) + (len(first.text) if first else 0)
    return lengths


def by_length(
    order: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    size: int,
    batches: int,
    begun: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """The same examples, in batches of similar length.

    Args:
        order: positions of an epoch's examples, shuffled.
        lengths: of the example at each position.
        size: examples per batch.
        batches: batches per mega-batch.
        begun: examples of the epoch that complete the batch in which the previous epoch ended; they stay in front.
        generator: shuffles the batches of each mega-batch.
    """
    parts: list[NDArray[np.int64]] = [order[:begun]]
    for start in range(begun, len(order), size * batches):
        members = order[start : start + size * batches]
        members = members[np.argsort(lengths[members], kind="stable")]
        whole = len(members) // size * size
        cut = members[:whole].reshape(-1, size)
        parts += [cut[number] for number in generator.permutation(len(cut))]
        parts.append(members[whole:])  # a batch that the next epoch completes, at the end of this one
    return np.concatenate(parts)
