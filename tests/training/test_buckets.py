"""Batches of similar length: each example once per epoch, in an order that depends on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from irexp.model.dense import DenseBiEncoder
from irexp.training.buckets import by_length, text_lengths
from tests.training.eight import BACKBONE, PAIRS, Eight, Listed, batches


@pytest.fixture(scope="module")
def model() -> DenseBiEncoder:
    """The offline backbone with mean pooling."""
    return DenseBiEncoder(BACKBONE, query_length=16, document_length=16).eval()


@pytest.mark.parametrize("buckets", [1, 2, 100])
def test_every_epoch_visits_each_example_once(model: DenseBiEncoder, buckets: int) -> None:
    """Also if an epoch ends within a batch: eight examples in batches of three, counted over three epochs."""
    lengths = np.array([7, 1, 5, 3, 8, 2, 6, 4])
    made = batches(model, size=3, lengths=lengths, length_buckets=buckets)
    positions = [position for number in range(8) for position in made.positions(number)]
    epochs = [positions[start : start + 8] for start in (0, 8, 16)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again = batches(model, size=3, lengths=lengths, length_buckets=buckets)
    assert [again.positions(number) for number in (5, 2)] == [made.positions(number) for number in (5, 2)]


def test_lengths_within_a_batch_are_alike_and_batches_are_shuffled() -> None:
    """In mega-batches of ten batches the lengths of a batch spread a tenth as far as those of a random one."""
    generator = np.random.default_rng(0)
    lengths, order = generator.integers(1, 1000, size=4000), generator.permutation(4000)
    sorted_order = by_length(order, lengths, size=20, batches=10, begun=0, generator=generator)
    spread = np.ptp(lengths[sorted_order].reshape(-1, 20), axis=1)
    assert spread.mean() < np.ptp(lengths[order].reshape(-1, 20), axis=1).mean() / 8
    means = lengths[sorted_order].reshape(-1, 20).mean(axis=1)[:10]
    assert means.tolist() not in (sorted(means.tolist()), sorted(means.tolist(), reverse=True))
    assert set(sorted_order[:200]) == set(order[:200])  # a mega-batch stays where it was


def test_a_batch_that_two_epochs_share_is_left_alone() -> None:
    """The examples that complete the previous epoch's batch stay in front, and what completes none stays at the end."""
    order, lengths = np.arange(10), np.arange(10)[::-1].copy()
    found = by_length(order, lengths, size=3, batches=3, begun=2, generator=np.random.default_rng(1))
    assert found[:2].tolist() == [0, 1]
    whole = [sorted(found[start : start + 3].tolist()) for start in (2, 5)]
    assert sorted(whole) == [[4, 5, 6], [7, 8, 9]]
    assert sorted(found[8:].tolist()) == [2, 3]


def test_a_length_is_that_of_the_query_and_its_first_document() -> None:
    """`question q3` has 11 characters, `text number 4` 13; a document that does not exist has none."""
    examples = Listed(("q3", ("d4", "d6"), (1.0, 0.0)), ("q4", ("gone",), (1.0,)))
    assert text_lengths(examples, Eight()).tolist() == [24, 11]
    assert len(text_lengths(PAIRS, Eight())) == len(PAIRS)
