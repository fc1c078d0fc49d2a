"""Batches of several training sets: order, prompts, processes and workers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from irexp.config.schema import Machine, Training
from irexp.dataset.collection import Examples, Mixing, Mixture, ScoredDocs
from irexp.dataset.draw import Draw
from irexp.dataset.in_memory import TextDocuments, TextExamples, TextTopics
from irexp.dataset.mixture import MixedExamples, TrainingSet
from irexp.dataset.run_examples import RunExamples
from irexp.loss.info_nce import InfoNCE
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.pipeline.component import component
from irexp.training.batch import Batch, Batches, PairBatch
from irexp.training.datamodule import RetrievalData
from irexp.training.mixed_order import MixedOrder
from irexp.training.prompts import check_prompts, padded
from irexp.types import ScoredDoc, UserError
from tests.training.eight import BACKBONE

NOTHING = TextDocuments({"unused": "a text"})


@pytest.fixture(scope="module")
def model() -> DenseBiEncoder:
    """The offline backbone with mean pooling, without the prompt's tokens."""
    return DenseBiEncoder(BACKBONE, query_length=16, document_length=16, pool_prompt=False).eval()


def order(
    mixing: Mixing, sizes: tuple[int, ...], weights: tuple[float, ...] | None = None, size: int = 4
) -> MixedOrder:
    """The order of sets of some sizes, in batches."""
    mixture = Mixture(mixing, sizes, weights or (1.0,) * len(sizes), ((None, None),) * len(sizes))
    return MixedOrder(mixture, np.arange(sum(sizes)), size=size, seed=1)


def taken(made: MixedOrder, batches: int) -> list[int]:
    """The positions of the first batches."""
    return [position for number in range(batches) for position in made.positions(number)]


def test_a_proportional_mixture_visits_every_example_once_per_epoch() -> None:
    """In any order of asking, each epoch in another order; batches mix the sets and may span epochs."""
    made = order("proportional", (7, 30, 1))
    assert made.examples == 38
    seen = taken(made, 19)
    assert sorted(seen[:38]) == sorted(seen[38:]) == list(range(38))
    assert seen[:38] != seen[38:]
    again = order("proportional", (7, 30, 1))
    assert [again.positions(number) for number in (18, 3, 11)] == [seen[72:], seen[12:16], seen[44:48]]
    assert any(min(batch) < 7 <= max(batch) for batch in map(made.positions, range(9)))


def test_a_weight_is_the_number_of_visits_per_epoch() -> None:
    """With 2 twice in every epoch, with 0.5 in every second epoch, however the epochs are cut."""
    made = order("proportional", (6, 8, 3), (2.0, 1.0, 0.5), size=1)
    counts = Counter(taken(made, 2 * 12 + 2 * 8 + 3))
    assert [counts[n] for n in range(17)] == [4] * 6 + [2] * 8 + [1] * 3


@pytest.mark.parametrize("mixing", ["proportional_batches", "round_robin"])
def test_a_batch_of_one_set_visits_its_examples_pass_by_pass(mixing: Mixing) -> None:
    """Each batch is of one set, and within a pass of a set no example comes twice or is left out."""
    made = order(mixing, (8, 24))
    sets = []
    streams: dict[bool, list[int]] = {False: [], True: []}
    for number in range(16):
        positions = made.positions(number)
        (is_second,) = {position >= 8 for position in positions}
        sets.append(is_second)
        streams[is_second] += positions
    assert sum(sets) == (8 if mixing == "round_robin" else 12)
    if mixing == "round_robin":
        assert sets == [False, True] * 8
    for is_second, start, size in ((False, 0, 8), (True, 8, 24)):
        for first in range(0, len(streams[is_second]) - size + 1, size):
            assert sorted(streams[is_second][first : first + size]) == list(range(start, start + size))


@pytest.mark.parametrize(
    ("sizes", "weights", "size", "epochs"),
    [((1000, 40), (1.0, 1.0), 64, 20), ((1000, 40), (1.0, 0.1), 64, 40), ((5,) * 10, (1.0,) * 10, 32, 40)],
)
def test_batches_of_small_sets_are_as_rare_as_their_examples(
    sizes: tuple[int, ...], weights: tuple[float, ...], size: int, epochs: int
) -> None:
    """Over many epochs an example is visited as often as its weight says, to one batch, also where its set is less."""
    made = order("proportional_batches", sizes, weights, size)
    batches = epochs * made.examples // size
    counts = Counter(int(np.searchsorted(np.cumsum(sizes), made.positions(n)[0], "right")) for n in range(batches))
    for place, (count, weight) in enumerate(zip(sizes, weights, strict=True)):
        assert abs(counts[place] - epochs * count * weight / size) <= 2
    again = order("proportional_batches", sizes, weights, size)
    assert [again.positions(n) for n in (batches - 1, 0, 7)] == [made.positions(n) for n in (batches - 1, 0, 7)]


def test_a_weight_of_round_robin_is_a_number_of_batches() -> None:
    """Two batches of the first set, then one of the second."""
    made = order("round_robin", (8, 8), (2.0, 1.0))
    assert [made.positions(number)[0] >= 8 for number in range(6)] == [False, False, True] * 2


def test_unusable_examples_are_in_no_batch() -> None:
    """A set of which nothing is left has no turn."""
    mixture = Mixture("round_robin", (2, 3, 2), (1.0,) * 3, ((None, None),) * 3)
    made = MixedOrder(mixture, np.array([0, 1, 2, 4]), size=2, seed=1)
    assert set(taken(made, 8)) == {0, 1, 2, 4}
    assert made.examples == 4


def texts(name: str, count: int) -> TextExamples:
    """Examples whose queries are distinct in their tokens."""
    return TextExamples([(f"{name} {n}", f"document {name} {n}", f"negative {name} {n}") for n in range(count)])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on a single core
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_with_workers_see_every_example_once(model: DenseBiEncoder, workers: int) -> None:
    """An epoch of 24 examples in 6 batches over 2 processes, each with its own workers."""
    mixed = MixedExamples({"a": TrainingSet(texts("cat", 10)), "b": TrainingSet(texts("dog", 14))})
    settings: dict[str, Any] = {"size": 4, "in_batch": True, "seed": 1, "world_size": 2}
    seen: Counter[tuple[int, ...]] = Counter()
    for rank in range(2):
        share = Batches(mixed, mixed.texts(NOTHING), model, rank=rank, **settings)
        for batch in DataLoader(share, batch_size=None, sampler=range(6), num_workers=workers):
            ids_BL, mask_BL = batch.queries.input_ids_BL, batch.queries.attention_mask_BL
            seen.update(tuple(ids[mask.bool()].tolist()) for ids, mask in zip(ids_BL, mask_BL, strict=True))
    expected = model.tokenize_queries(
        [f"{name} {n}" for name, count in (("cat", 10), ("dog", 14)) for n in range(count)]
    )
    assert seen == Counter(map(tuple, expected))


def rows_of(model: DenseBiEncoder | ColBERT, prompts: list[str | None], *, is_query: bool) -> Any:
    """Tokens of three texts after their prompts."""
    return padded(model, ["short", "a longer text here", "third"], prompts, is_query=is_query)


@pytest.mark.parametrize("is_query", [True, False])
def test_a_sets_prompt_replaces_the_models(is_query: bool) -> None:
    """Each row has the tokens and the pooling mask of a model with that prompt; the model's own stays as it was."""
    made = {
        prompt: DenseBiEncoder(
            BACKBONE,
            query_length=16,
            document_length=16,
            query_prompt=prompt,
            document_prompt=prompt,
            pool_prompt=False,
        )
        for prompt in ("search: ", "find this text: ", "")
    }
    own = made["search: "]
    mixed = rows_of(own, [None, "find this text: ", ""], is_query=is_query)
    for row, prompt in enumerate(("search: ", "find this text: ", "")):
        alone = rows_of(made[prompt], [None] * 3, is_query=is_query)
        count = int(alone.attention_mask_BL[row].sum())
        assert mixed.input_ids_BL[row, :count].tolist() == alone.input_ids_BL[row, :count].tolist()
        assert int(mixed.attention_mask_BL[row].sum()) == count
        assert mixed.pooling_mask_BL[row, :count].tolist() == alone.pooling_mask_BL[row, :count].tolist()
    assert own.query_prompt == own.document_prompt == "search: "


def test_batches_use_the_prompts_of_their_sets(model: DenseBiEncoder) -> None:
    """Queries and documents of one set get its prompts, for a bi-encoder and a cross-encoder."""
    prompted = TrainingSet(texts("cat", 2), query_prompt="find: ", document_prompt="text: ")
    mixed = MixedExamples({"a": prompted, "b": TrainingSet(texts("dog", 2))})
    batch = Batches(mixed, mixed.texts(NOTHING), model, size=4, in_batch=True, seed=1)[0]
    assert isinstance(batch, Batch)
    decoded = [model.query_tower.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.queries.input_ids_BL]
    assert sorted("find :" in text for text in decoded) == [False, False, True, True]
    assert all(("find :" in text) == ("cat" in text) for text in decoded)
    ids_BL = batch.documents.input_ids_BL
    decoded = [model.document_tower.tokenizer.decode(ids, skip_special_tokens=True) for ids in ids_BL]
    assert len(decoded) == 8 and all(("text :" in text) == ("cat" in text) for text in decoded)
    torch.manual_seed(0)
    mono = Mono(BACKBONE, query_length=8, document_length=16)
    pairs = Batches(mixed, mixed.texts(NOTHING), mono, size=4, in_batch=False, seed=1)[0]
    assert isinstance(pairs, PairBatch)
    decoded = [mono.tokenizer.decode(ids, skip_special_tokens=True) for ids in pairs.pairs.input_ids_BL]
    assert len(decoded) == 8 and all(("find :" in text) == ("cat" in text) for text in decoded)


def test_a_set_without_in_batch_negatives_is_compared_with_its_own_documents_alone(model: DenseBiEncoder) -> None:
    """A query of the other set still has all documents of the batch, and the loss is that over the own ones."""
    mixed = MixedExamples({"a": TrainingSet(texts("cat", 2)), "b": TrainingSet(texts("dog", 2), in_batch=False)})
    batch = Batches(mixed, mixed.texts(NOTHING), model, size=4, in_batch=True, seed=1)[0]
    assert isinstance(batch, Batch)
    known_B = (~batch.target_BN.isnan()).sum(dim=1).tolist()
    assert sorted(known_B) == [2, 2, 8, 8]
    assert batch.target_BN.nansum(dim=1).tolist() == [1.0] * 4
    target_1N = batch.target_BN[known_B.index(2)][None]
    score_1N = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.logsumexp(score_1N[~target_1N.isnan()], 0) - score_1N[target_1N == 1][0]
    torch.testing.assert_close(InfoNCE(temperature=1.0)(score_1N, target_1N), expected)


def test_prompts_that_a_model_cannot_use_are_refused(model: DenseBiEncoder) -> None:
    """Before the first step: a re-ranker has no prompt for documents, and a text needs room after its prompt."""
    torch.manual_seed(0)
    mono = Mono(BACKBONE, query_length=8, document_length=16)
    check_prompts(mono, [("find: ", None)])
    with pytest.raises(UserError, match="Mono has no document_prompt; leave it out of the training sets"):
        check_prompts(mono, [(None, "text: ")])
    with pytest.raises(UserError, match=r"the query_prompt 'one two .* fills the 16 tokens of a text; shorten it"):
        check_prompts(model, [("one two three four five six seven eight nine ten " * 2, None)])
    with pytest.raises(UserError, match=r"the query_prompt 'find .* fills the 8 tokens of a text; shorten it"):
        check_prompts(mono, [("find the one of these that is asked for: ", None)])


class Run(ScoredDocs):
    """Two documents of one query."""

    def __iter__(self) -> Any:
        return iter([ScoredDoc("q", doc_id, -float(doc_id)) for doc_id in ("1", "2", "9")])


def listed() -> Examples:
    """A list whose positive is not known; document 9 is in no collection."""
    return RunExamples(Run(), TextTopics({"q": "a query"}))


def test_a_list_without_a_known_positive_keeps_what_the_collection_has(model: DenseBiEncoder) -> None:
    """A missing document is left out, whatever its rank, and the others are drawn from."""
    documents = TextDocuments({"1": "one", "2": "two"})
    unknown = listed().unknown_doc_ids(documents)
    made = Batches(listed(), documents, model, size=1, in_batch=False, seed=1, unknown=unknown, negatives=Draw(1))
    batch = made[0]
    assert isinstance(batch, Batch)
    assert batch.target_BN.tolist() == [[-1.0, -2.0]]


def test_in_batch_negatives_need_a_known_positive(model: DenseBiEncoder, settings: tuple[Training, Machine]) -> None:
    """The best of a teacher's ranks may not be relevant; neither may be a skip that leaves nothing."""
    training, machine = settings
    more: dict[str, Any] = {"training": training, "machine": machine, "seed": 1, "validation": None}
    with pytest.raises(UserError, match="the loss needs a positive for its in-batch negatives"):
        RetrievalData(listed(), NOTHING, model, in_batch=True, negatives=Draw(), **more)
    with pytest.raises(UserError, match=r"negatives\.skip=5 leaves no negatives"):
        RetrievalData(texts("cat", 8), NOTHING, model, in_batch=True, negatives=Draw(skip=5), **more)


@pytest.fixture
def settings() -> tuple[Training, Machine]:
    """The defaults."""
    return component("training"), component("machine")
