"""Which negatives of an example a step uses."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from irexp.dataset.draw import Draw, Sampler, check_skip
from irexp.types import Example, Query, UserError

#: A positive and ten negatives by rank.
TEN = Example(Query("q", "question"), ("p", *map(str, range(1, 11))), (1.0,) + (0.0,) * 10)


def drawn(draw: Draw, key: int = 0, example: Example = TEN, **changes: Any) -> tuple[str, ...]:
    """The documents of a draw."""
    settings: dict[str, Any] = {"is_positive_first": True, "relevant": ()} | changes
    return draw(example, [1, key], **settings).doc_ids


def test_each_sampler_draws_what_its_name_says() -> None:
    """The positive is first, ranks keep their order, and no document comes twice."""
    assert drawn(Draw(3, "top")) == ("p", "1", "2", "3")
    for key in range(20):
        found = drawn(Draw(5, "top_and_random"), key)
        assert found[:4] == ("p", "1", "2", "3")
        assert len({*found}) == 6
        found = drawn(Draw(4, "random"), key)
        assert found[0] == "p" and list(map(int, found[1:])) == sorted(map(int, found[1:])) and len({*found}) == 5
    assert len({drawn(Draw(4, "random"), key) for key in range(20)}) > 10
    assert drawn(Draw()) == drawn(Draw(10)) == drawn(Draw(12)) == TEN.doc_ids


def test_log_random_draws_a_rank_in_proportion_to_one_over_its_logarithm() -> None:
    """The frequencies of single draws equal the formula's."""
    found = Counter(int(drawn(Draw(1, "log_random"), key)[1]) for key in range(4000))
    weights = [1 / math.log(1 + rank) for rank in range(1, 11)]
    for rank, weight in enumerate(weights, 1):
        assert found[rank] / 4000 == pytest.approx(weight / sum(weights), abs=0.025)


def test_single_relevant_draws_one_relevant_document_and_others_that_are_not() -> None:
    """Each relevant document of the list is drawn at times, and comes first."""
    firsts = set()
    for key in range(40):
        first, *others = drawn(Draw(3, "single_relevant"), key, relevant={"2", "7"})
        firsts.add(first)
        assert len(others) == 3 and not {*others} & {"p", "2", "7"}
    assert firsts == {"p", "2", "7"}
    listed = drawn(Draw(None, "single_relevant"), relevant={"4"}, is_positive_first=False)
    assert listed == ("4", "p", *map(str, (1, 2, 3, 5, 6, 7, 8, 9, 10)))


@pytest.mark.parametrize("sampler", ["random", "top", "log_random", "single_relevant", "top_and_random"])
def test_a_draw_depends_on_its_key_alone_and_skips_the_first_ranks(sampler: Sampler) -> None:
    """A resumed training draws the same; ranks 1 to 4 never appear."""
    draw = Draw(3, sampler, skip=4)
    for key in range(10):
        assert drawn(draw, key) == drawn(draw, key)
        assert min(int(doc_id) for doc_id in drawn(draw, key)[1:]) > 4
    assert drawn(Draw(None, sampler, skip=9)) == ("p", "10")


def test_without_a_known_positive_the_whole_list_is_drawn_from() -> None:
    """Of a run's list the first document is not always kept, and there is one document more."""
    found = [drawn(Draw(3, "random"), key, is_positive_first=False) for key in range(20)]
    assert {len(doc_ids) for doc_ids in found} == {4}
    assert 0 < sum("p" in doc_ids for doc_ids in found) < 20


def test_targets_go_with_their_documents() -> None:
    """A teacher's score must not move to another document."""
    scored = TEN._replace(targets=tuple(map(float, range(11))))
    found = Draw(4, "random")(scored, [3], is_positive_first=True, relevant=())
    assert [0.0, *map(float, found.doc_ids[1:])] == list(found.targets)


def test_a_drawn_positive_has_the_positives_label() -> None:
    """Whichever relevant document `single_relevant` puts first; the others are its negatives."""
    for key in range(20):
        found = Draw(3, "single_relevant")(TEN, [1, key], is_positive_first=True, relevant={"2", "7"})
        assert found.targets == (1.0, 0.0, 0.0, 0.0)


def test_random_draws_what_it_drew_before_there_were_samplers() -> None:
    """A training that an earlier version began resumes with the same negatives."""
    generator = np.random.default_rng([1, 0])
    places = 1 + generator.choice(10, size=3, replace=False)
    assert drawn(Draw(3)) == ("p", *map(str, sorted(places.tolist())))


def test_a_skip_that_leaves_nothing_is_an_error() -> None:
    """It would train on positives alone."""
    check_skip(9, [TEN])
    with pytest.raises(UserError, match=r"negatives.skip=10 leaves no negatives: .* at most 10; skip fewer"):
        check_skip(10, [TEN])
