"""Training batches: their examples, targets and negatives, and their division among processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from irexp.dataset.draw import Draw
from irexp.dataset.mixture import MixedExamples, TrainingSet
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.training.batch import Batches, PairBatch
from irexp.types import Example
from tests.training.eight import BACKBONE, RELEVANT, Eight, Listed, batch_of, batches, first


@pytest.fixture(scope="module")
def model() -> DenseBiEncoder:
    """The offline backbone with mean pooling."""
    return DenseBiEncoder(BACKBONE, query_length=16, document_length=16).eval()


def test_every_epoch_visits_each_example_once_in_a_new_order(model: DenseBiEncoder) -> None:
    """Batches are consecutive slices of one seeded permutation per epoch."""
    made = batches(model)
    positions = [position for number in range(4) for position in made.positions(number)]
    assert sorted(positions[:8]) == sorted(positions[8:]) == list(range(8))
    assert positions[:8] != positions[8:]
    assert batches(model).positions(3) == made.positions(3)
    assert batches(model, seed=2).positions(0) != made.positions(0)


def test_a_known_positive_is_never_a_negative(model: DenseBiEncoder) -> None:
    """For q0 with d0, the other relevant document d1 has no target; other queries' documents are negatives."""
    examples = Listed(*((q, (d,), (1.0,)) for q, d in [("q0", "d0"), ("q0", "d1"), ("q3", "d4"), ("q4", "d5")]))
    batch = first(batches(model, examples))
    rows = [examples[position] for position in batches(model, examples).positions(0)]
    columns = [example.doc_ids[0] for example in rows]
    for row, example in enumerate(rows):
        for column, doc_id in enumerate(columns):
            target = batch.target_BN[row, column].item()
            if doc_id == example.doc_ids[0]:
                assert target == 1.0
            elif doc_id in RELEVANT[example.query.query_id]:
                assert target != target  # NaN
            else:
                assert target == 0.0


def test_a_document_of_two_queries_is_encoded_once(model: DenseBiEncoder) -> None:
    """A negative that two queries share is one column, not two."""
    examples = Listed(("q3", ("d4", "d6"), (1.0, 0.0)), ("q4", ("d5", "d6"), (1.0, 0.0)))
    batch = first(batches(model, examples, size=2))
    assert len(batch.documents.input_ids_BL) == 3
    assert (batch.target_BN == 1.0).sum() == 2


def test_with_in_batch_negatives_the_first_document_is_the_positive_whatever_the_teachers_scores(
    model: DenseBiEncoder,
) -> None:
    """With negative logits, no unscored document of another query and no second document becomes the positive."""
    examples = Listed(
        ("q3", ("d4", "d6"), (-1.5, -6.0)), ("q4", ("d5", "d7"), (-2.5, -0.5)), ("q0", ("d0", "d1"), (3.0, 2.0))
    )
    made = batches(model, examples, size=3)
    batch = first(made)
    rows = [examples[position] for position in made.positions(0)]
    columns = [doc_id for example in rows for doc_id in example.doc_ids]
    for row, example in enumerate(rows):
        expected = [float(doc_id == example.doc_ids[0]) for doc_id in columns]
        if example.query.query_id == "q0":
            expected[columns.index("d1")] = torch.nan  # relevant, too
        torch.testing.assert_close(batch.target_BN[row], torch.tensor(expected), equal_nan=True)


def test_without_in_batch_negatives_a_query_has_only_its_own_documents(model: DenseBiEncoder) -> None:
    """Targets are those of the example; a listed negative that is known to be relevant has no target."""
    examples = Listed(("q0", ("d0", "d6", "d1"), (1.0, 0.0, 0.0)), ("q3", ("d4", "d7"), (0.9, 0.3)))
    batch = first(batches(model, examples, size=2, in_batch=False))
    rows = [examples[position].query.query_id for position in batches(model, examples, size=2).positions(0)]
    assert batch.column_BN is not None
    q0, q3 = rows.index("q0"), rows.index("q3")
    assert batch.target_BN[q0].tolist()[:2] == [1.0, 0.0]
    assert batch.target_BN[q0].isnan().sum() == 1
    assert batch.target_BN[q3, :2].tolist() == pytest.approx([0.9, 0.3])
    assert batch.target_BN[q3].isnan().sum() == 1


def test_a_teachers_score_of_zero_is_no_label(model: DenseBiEncoder) -> None:
    """As scores mapped to 0 … 1 have; of a document that is known to be relevant, too."""
    for targets in ((1.0, 0.5, 0.0), (2.5, -1.0, 0.0)):
        examples = Listed(("q0", ("d0", "d6", "d1"), targets))
        assert first(batches(model, examples, size=1, in_batch=False)).target_BN.tolist() == [list(targets)]
    graded = Listed(("q0", ("d0", "d6", "d1"), (2.0, 1.0, 0.0)))
    assert first(batches(model, graded, size=1, in_batch=False)).target_BN[0, 2].isnan()


def test_documents_missing_from_the_collection_are_left_out(model: DenseBiEncoder) -> None:
    """An example without its relevant document is left out; a missing negative has no column."""
    examples = Listed(("q3", ("gone",), (1.0,)), ("q4", ("d5", "gone too"), (1.0, 0.0)))
    unknown = examples.unknown_doc_ids(Eight())
    assert unknown == {"gone", "gone too"}
    made = batches(model, examples, size=1, unknown=unknown)
    assert made.examples == 1
    assert len(first(made).documents.input_ids_BL) == 1


@pytest.mark.parametrize("in_batch", [True, False])
def test_a_relevant_document_without_a_text_is_not_drawn(model: DenseBiEncoder, in_batch: bool) -> None:
    """Of q0's two relevant documents one is missing: the other one is the positive at every step."""
    examples = Listed(("q0", ("d0", "d1", "d6", "d7"), (1.0, 1.0, 0.0, 0.0)))
    draw, unknown = Draw(2, "single_relevant"), {"d1"}
    made = batches(model, examples, size=1, negatives=draw, unknown=unknown, in_batch=in_batch)
    for number in range(8):
        assert batch_of(made, number).own().target_BN.tolist() == [[1.0, 0.0, 0.0]]


def test_each_set_of_a_mixture_says_itself_whether_its_first_document_is_the_positive(model: DenseBiEncoder) -> None:
    """A set of ranks says nothing of it, and must not take the positives from the draws of another set."""
    labelled = Listed(("q1", ("d2", "d3", "d4", "d5", "d6"), (1.0, 0.0, 0.0, 0.0, 0.0)))
    ranks = Listed(("q3", ("d0", "d1", "d2", "d3", "d5"), (-1.0, -2.0, -3.0, -4.0, -5.0)))
    ranks.is_positive_first = False
    mixed = MixedExamples({"a": TrainingSet(labelled), "b": TrainingSet(ranks)})
    made = Batches(mixed, mixed.texts(Eight()), model, size=2, in_batch=False, seed=1, negatives=Draw(1))
    firsts = set()
    for number in range(8):
        rows = dict(zip(made.positions(number), batch_of(made, number).own().target_BN.tolist(), strict=True))
        assert rows[0] == [1.0, 0.0]
        firsts.add(rows[1][0])
    assert len(firsts) > 1


def test_negatives_are_drawn_again_at_each_step_from_the_seed(model: DenseBiEncoder) -> None:
    """Each step uses two of four negatives, not always the same two; the same step draws the same two again."""
    examples = Listed(("q3", ("d4", "d5", "d6", "d7", "d1"), (1.0, 0.0, 0.0, 0.0, 0.0)))
    settings: dict[str, Any] = {"size": 1, "in_batch": False, "negatives": Draw(2)}
    seen = [first_n.target_BN.shape[1] for first_n in (batches(model, examples, **settings)[n] for n in range(4))]
    assert seen == [3] * 4
    texts = {str(batches(model, examples, **settings)[n].documents.input_ids_BL.tolist()) for n in range(12)}  # type: ignore[union-attr]
    assert 3 <= len(texts) <= 6
    again = batches(model, examples, **settings)[5]
    assert torch.equal(again.documents.input_ids_BL, batches(model, examples, **settings)[5].documents.input_ids_BL)  # type: ignore[union-attr]


def test_a_cross_encoders_batch_pairs_each_query_with_its_own_documents(model: DenseBiEncoder) -> None:
    """Shorter lists are padded with NaN targets, and a relevant document is not paired as a negative."""
    torch.manual_seed(0)
    mono = Mono(BACKBONE, query_length=8, document_length=16)
    examples = Listed(("q0", ("d0", "d6", "d1"), (1.0, 0.0, 0.0)), ("q3", ("d4", "d7", "d5"), (0.9, 0.3, 0.2)))
    made = Batches(examples, Eight(), mono, size=2, in_batch=False, seed=1)
    batch = made[0]
    assert isinstance(batch, PairBatch)
    rows = [examples[position].query.query_id for position in made.positions(0)]
    q0, q3 = rows.index("q0"), rows.index("q3")
    assert batch.sizes[q0] == 2
    assert batch.sizes[q3] == 3
    assert batch.target_BN[q0].isnan().tolist() == [False, False, True]
    assert len(batch.pairs.input_ids_BL) == 5
    assert sorted({*batch.lists.column_BN[q0, :2].tolist(), *batch.lists.column_BN[q3].tolist()}) == [0, 1, 2, 3, 4]


class Prompted(Listed):
    """The documents of the query q0 have a prompt."""

    def __getitem__(self, position: int) -> Example:
        example = super().__getitem__(position)
        return example._replace(document_prompt="find " if example.query.query_id == "q0" else None)


@pytest.mark.parametrize("in_batch", [True, False])
def test_a_document_with_two_prompts_in_a_batch_is_two_texts(model: DenseBiEncoder, in_batch: bool) -> None:
    """Each example has it with its own prompt, and neither text is a negative of the other's query."""
    examples = Prompted(("q0", ("d1", "d6"), (1.0, 0.0)), ("q1", ("d1",), (1.0,)))
    made = batches(model, examples, size=2, in_batch=in_batch)
    batch, own = first(made), first(made).own()
    lengths = (batch.documents.attention_mask_BL.sum(dim=1) - 5).tolist()  # beyond those of the text
    rows = [examples[position].query.query_id for position in made.positions(0)]
    assert len(lengths) == 3
    assert [lengths[own.column_BN[rows.index(query_id), 0]] > 0 for query_id in ("q0", "q1")] == [True, False]
    if in_batch:
        for row in range(2):
            assert batch.target_BN[row, own.column_BN[row, 0]] == 1.0
            assert batch.target_BN[row, own.column_BN[1 - row, 0]].isnan()
