"""Several training sets as one."""

from __future__ import annotations

from typing import Any

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.examples import QrelExamples
from irexp.dataset.in_memory import TextDocuments, TextExamples, TextTopics
from irexp.dataset.mixture import MixedExamples, TrainingSet
from irexp.types import Example, Query

CATS = TextDocuments({"1": "a cat", "2": "two cats"})
DOGS = TextDocuments({"1": "a dog"})


def judged(text: str, *doc_ids: str) -> QrelExamples:
    """One query, q, with relevant documents."""
    return QrelExamples(TextTopics({"q": text}, {"q": list(doc_ids)}))


def both(**changes: Any) -> MixedExamples:
    """Two sets whose queries and documents have equal ids; the second has a collection of its own."""
    cats = TrainingSet(judged("cats", "1", "2"), query_prompt="find: ")
    return MixedExamples({"cats": cats, "dogs": TrainingSet(judged("dogs", "1", "9"), documents=DOGS)}, **changes)


def test_equal_ids_of_two_sets_stay_apart() -> None:
    """Query q and document 1 mean something else in each set; so do known positives and texts."""
    examples = both()
    assert [examples[n].doc_ids for n in range(4)] == [("cats: 1",), ("cats: 2",), ("dogs: 1",), ("dogs: 9",)]
    assert examples[0] == Example(Query("cats: q", "cats"), ("cats: 1",), (1.0,), "find: ")
    assert examples[2] == Example(Query("dogs: q", "dogs"), ("dogs: 1",), (1.0,))
    assert examples.relevant_doc_ids("cats: q") == {"cats: 1", "cats: 2"}
    assert examples.relevant_doc_ids("dogs: q") == {"dogs: 1", "dogs: 9"}
    assert examples.relevant_doc_ids("birds: q") == examples.relevant_doc_ids("q") == frozenset()
    assert examples.doc_ids() == {"cats: 1", "cats: 2", "dogs: 1", "dogs: 9"}
    texts = examples.texts(CATS).get_many(["cats: 1", "cats: 2", "dogs: 1", "dogs: 9", "1"])
    assert {doc_id: document.text for doc_id, document in texts.items()} == {
        "cats: 1": "a cat",
        "cats: 2": "two cats",
        "dogs: 1": "a dog",
    }
    assert examples.unknown_doc_ids(CATS) == {"dogs: 9"}


def test_a_set_with_texts_needs_no_collection() -> None:
    """Its texts are found beside those of the collection."""
    mixed = MixedExamples({"a": TrainingSet(judged("cats", "1")), "b": TrainingSet(TextExamples([("dogs", "a dog")]))})
    (doc_id,) = mixed[1].doc_ids
    assert mixed.unknown_doc_ids(CATS) == set()
    assert mixed.texts(CATS).get_many([doc_id, "a: 1"])[doc_id].text == "a dog"


def test_a_mixture_says_how_it_is_mixed() -> None:
    """The sizes, weights and prompts of its sets, by name."""
    mixture = both(mixing="round_robin").mixture
    assert (mixture.mixing, mixture.sizes, mixture.weights) == ("round_robin", (2, 2), (1.0, 1.0))
    assert mixture.prompts == (("find: ", None), (None, None))


def test_the_order_of_the_sets_changes_nothing() -> None:
    """Nor is it in the identity; a name that is a number, as 2019 in Python, is a text like any other."""
    one, other = TrainingSet(judged("cats", "1")), TrainingSet(judged("dogs", "1"), weight=2.0)
    numbered: Any = {"b": other, 2019: one, "left out": None}
    for mixed in (MixedExamples({"2019": one, "b": other}), MixedExamples(numbered)):
        assert mixed.mixture.weights == (1.0, 2.0)
        assert [mixed[n].query.query_id for n in range(2)] == ["2019: q", "b: q"]
        assert mixed.relevant_doc_ids("2019: q") == {"2019: 1"}


def test_a_wrong_mixture_is_an_error() -> None:
    """No set, a weight that visits nothing, a part of a turn, and names that cannot be told apart."""
    for nothing in ({}, {"a": None}):
        with pytest.raises(DataError, match="names no training set"):
            MixedExamples(nothing)
    with pytest.raises(DataError, match="weight=0 of a training set must be above 0"):
        TrainingSet(judged("cats", "1"), weight=0)
    half = TrainingSet(judged("cats", "1"), weight=0.5)
    assert len(MixedExamples({"a": half})) == 1
    with pytest.raises(DataError, match=r"sets\.a\.weight=0\.5: with mixing=round_robin .* whole number"):
        MixedExamples({"a": half}, mixing="round_robin")
    twice: Any = {2019: half, "2019": half}
    with pytest.raises(DataError, match=r"two sets have the name '2019'; rename one"):
        MixedExamples(twice)
    with pytest.raises(DataError, match=r"the name 'a:b' has a colon; rename the set"):
        MixedExamples({"a:b": half})
