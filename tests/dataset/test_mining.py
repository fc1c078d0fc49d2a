"""Mined negatives pass every filter, a teacher's scores reach the right documents, and nothing is dropped silently."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp.config.schema import Negatives
from irexp.dataset.collection import DataError, Examples
from irexp.dataset.examples import FileExamples, QrelExamples
from irexp.dataset.in_memory import TextTopics
from irexp.dataset.mining import EXAMPLES, Candidates, MinedExamples, mine_negatives, read_mined
from irexp.dataset.scores import PairScores, ScoredExamples
from irexp.types import ScoredDoc

TOPICS = TextTopics({"q": "a question", "r": "another one"}, {"q": ["d0", "d5"], "r": ["d1"]})

#: The run of query q: d9 is best, d0 worst.
RUN = [ScoredDoc("q", f"d{number}", float(number)) for number in range(10)]


def examples() -> Examples:
    """Query q with the positives d0 and d5, and query r with d1."""
    return QrelExamples(TOPICS)


def run(lines: list[ScoredDoc]) -> Candidates:
    """A run to mine from."""
    rankings: dict[str, list[str]] = {}
    for line in sorted(lines, key=lambda line: -line.score):
        rankings.setdefault(line.query_id, []).append(line.doc_id)
    return Candidates(rankings, PairScores(lines))


def mined(
    *runs: list[ScoredDoc], scores: list[ScoredDoc] | None = None, seed: int = 1, **filters: Any
) -> MinedExamples:
    """Mine with filters."""
    settings = Negatives(candidates=None, depth=filters.pop("depth", 100), count=None, **filters)
    table = None if scores is None else PairScores(scores)
    return mine_negatives(examples(), [run(lines) for lines in runs], table, settings, seed=seed, shown=False)


def negatives(found: MinedExamples) -> dict[str, list[str]]:
    """The negatives of each positive."""
    return {found[n].doc_ids[0]: list(found[n].doc_ids[1:]) for n in range(len(found))}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["d9", "d8", "d7", "d6", "d4", "d3", "d2", "d1"]),
        ({"skip": 2}, ["d7", "d6", "d4", "d3", "d2", "d1"]),
        ({"depth": 4}, ["d9", "d8", "d7", "d6"]),
        ({"min_score": 3.0}, ["d9", "d8", "d7", "d6", "d4", "d3"]),
        ({"max_score": 6.0}, ["d6", "d4", "d3", "d2", "d1"]),
        ({"absolute_margin": 2.0}, ["d3", "d2", "d1"]),  # the positive d5 has 5: at most 3
        ({"relative_margin": 0.2}, ["d4", "d3", "d2", "d1"]),  # at most 4
        ({"relative_margin": 0.2, "absolute_margin": 2.0, "keep": 2}, ["d3", "d2"]),
    ],
)
def test_a_filter_keeps_exactly_the_candidates_within_its_bounds(filters: dict[str, Any], expected: list[str]) -> None:
    """Known positives are never kept, and the kept ones stay in the order of their ranks."""
    assert negatives(mined(RUN, **filters))["d5"] == expected


def test_the_margin_belongs_to_each_positive() -> None:
    """Two positives of one query have different margins, so that one keeps what the other drops."""
    lines = [ScoredDoc("q", "d0", 9.0), *(line for line in RUN if line.doc_id != "d0")]
    found = negatives(mined(lines, absolute_margin=2.0))
    assert found["d0"] == ["d7", "d6", "d4", "d3", "d2", "d1"]
    assert found["d5"] == ["d3", "d2", "d1"]


def test_a_relative_margin_of_a_negative_score_is_below_it() -> None:
    """A logit may be negative: 95 % of -10 would be above it, and would let false negatives pass."""
    lines = [
        ScoredDoc("q", "d5", -10.0),
        ScoredDoc("q", "d6", -9.8),
        ScoredDoc("q", "d7", -10.4),
        ScoredDoc("q", "d8", -11.0),
    ]
    assert negatives(mined(lines, relative_margin=0.05))["d5"] == ["d8"]


def test_the_scores_of_a_re_ranker_replace_those_of_the_run() -> None:
    """The positive that the run missed has a score, and the order is the re-ranker's."""
    scores = [ScoredDoc("q", doc_id, score) for doc_id, score in (("d5", 4.0), ("d7", 1.0), ("d8", 2.0), ("d9", 3.5))]
    without_positive = [line for line in RUN if line.doc_id != "d5"]
    found = mined(without_positive, scores=scores, absolute_margin=1.0)
    assert negatives(found)["d5"] == ["d8", "d7"]
    assert found.histogram["too close to the positive", 1] == 1
    assert negatives(mined(without_positive, scores=[*scores, ScoredDoc("q", "d0", 9.0)]))["d5"][:3] == [
        "d9",
        "d8",
        "d7",
    ]


def test_a_candidate_that_the_re_ranker_did_not_score_is_dropped() -> None:
    """Its place among logits, most of which are negative, is not known."""
    scores = [ScoredDoc("q", doc_id, score) for doc_id, score in (("d5", 4.0), ("d7", -2.0), ("d8", -1.0))]
    found = mined(RUN, scores=scores, keep=3)
    assert negatives(found)["d5"] == ["d8", "d7"]
    assert sum(count for (outcome, _), count in found.histogram.items() if outcome == "without a score") > 0


def test_a_querys_own_document_is_no_negative_of_it() -> None:
    """Where queries are documents, as the topics say, which every search finds first."""
    own = TextTopics({"d9": "a question"}, {"d9": ["d0"]}, remove_query=True)
    lines = [ScoredDoc("d9", f"d{number}", float(number)) for number in range(10)]
    settings = Negatives(candidates=None, depth=3, count=None)
    found = mine_negatives(QrelExamples(own), [run(lines)], None, settings, seed=1, shown=False)
    assert found[0].doc_ids == ("d0", "d8", "d7")


def test_a_teachers_infinite_score_is_named() -> None:
    """Its loss would be NaN, which a lower learning rate does not repair."""
    scores = [ScoredDoc("q", "d5", 4.0), ScoredDoc("q", "d0", math.inf)]
    with pytest.raises(DataError, match=r"teacher\.scores: the score of document 'd0' for the query 'q' is inf"):
        ScoredExamples(examples(), PairScores(scores))


def test_a_margin_without_the_score_of_the_positive_drops_its_candidates(caplog: pytest.LogCaptureFixture) -> None:
    """What is not known to be less relevant is not a negative; the log says how to score positives."""
    lines = [*(line for line in RUN if line.doc_id != "d0")]
    with caplog.at_level(logging.WARNING):
        found = mined(lines, absolute_margin=1.0)
    assert negatives(found)["d0"] == [] and negatives(found)["d5"]
    assert found.counts()["positive_without_a_score"] == 8
    assert "set negatives.scores=[model=…]" in caplog.text
    assert "2 of 3 training examples get no negative" in caplog.text  # d0, and d1 of query r


def test_a_document_of_several_runs_must_pass_in_each() -> None:
    """It counts once, by its best rank; a run that finds it too good drops it."""
    other = [ScoredDoc("q", "d5", 1.0), ScoredDoc("q", "d1", 0.9), ScoredDoc("q", "d2", 0.1), ScoredDoc("q", "x", 0.2)]
    found = mined(RUN, other, relative_margin=0.5)
    assert negatives(found)["d5"] == ["x", "d2"]  # ranks 3 and 4 of the second run; d1 is too close there
    assert sum(found.histogram.values()) == 11 + 11  # of d0 and of d5: ten documents and x


def test_the_histogram_counts_every_candidate_once(tmp_path: Path) -> None:
    """Its sum is the number of candidates, by outcome and by rank."""
    found = mined(RUN, skip=1, max_score=7.0, keep=2)
    assert found.histogram == Counter(
        {
            ("known to be relevant", 10): 4,
            ("skipped", 1): 2,
            ("above the highest score", 3): 2,
            ("kept", 3): 2,
            ("kept", 10): 2,
            ("not sampled", 10): 8,
        }
    )
    found.write(tmp_path)
    lines = (tmp_path / "histogram.csv").read_text().splitlines()
    assert lines[0] == "outcome,ranks,candidates" and "kept,2-3,2" in lines and "known to be relevant,4-10,4" in lines
    assert sum(int(line.rpartition(",")[2]) for line in lines[1:]) == 20


def test_random_negatives_depend_on_the_seed_alone() -> None:
    """The same seed draws the same, another one others, and all pass the filters."""
    first, again, other = (
        negatives(mined(RUN, keep=3, keep_by="random", max_score=8.0, seed=seed))["d5"] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == len(set(first)) == 3 and not {"d9", "d5", "d0"} & {*first, *other}
    drawn = Counter(
        doc_id for seed in range(200) for doc_id in negatives(mined(RUN, keep=2, keep_by="random", seed=seed))["d5"]
    )
    assert len(drawn) == 8 and max(drawn.values()) < 2 * min(drawn.values())


def test_no_negative_at_all_is_refused_with_the_counts() -> None:
    """The counts say which filter is too strict."""
    with pytest.raises(DataError, match=r"no negative is left .*: 16 below the lowest score, 4 known to be relevant"):
        mined(RUN, min_score=100.0)


def test_mined_examples_are_read_back_and_open_as_a_dataset(tmp_path: Path) -> None:
    """The file has the format of dataset=triples, and belongs to the examples that it was made from."""
    found = mined(RUN, skip=3)
    found.write(tmp_path)
    again = read_mined(tmp_path, examples())
    as_file = FileExamples(str(tmp_path / EXAMPLES), topics=TOPICS)
    for position in range(3):
        assert again[position] == found[position] == as_file[position]
    assert again.doc_ids() == as_file.doc_ids()
    others = QrelExamples(TextTopics({"q": "a question"}, {"q": ["d3"]}))
    with pytest.raises(DataError, match=r"examples\.jsonl:1: this is not example 0 of dataset\.train"):
        read_mined(tmp_path, others)


def test_pair_scores_equal_a_dictionary() -> None:
    """Whatever the order of the lines; what is missing has none."""
    generator = np.random.default_rng(0)
    wanted = {(f"q{q}", f"d{d}"): float(generator.normal()) for q in range(7) for d in generator.choice(50, 20)}
    lines = [ScoredDoc(*pair, score) for pair, score in wanted.items()]
    table = PairScores(lines[index] for index in generator.permutation(len(lines)))
    for q in range(8):
        doc_ids = [f"d{d}" for d in range(50)]
        assert table.of(f"q{q}", doc_ids) == [wanted.get((f"q{q}", doc_id)) for doc_id in doc_ids]


def test_a_teachers_scores_become_the_targets(caplog: pytest.LogCaptureFixture) -> None:
    """Documents without a score, and examples whose positive has none, are left out, and the log counts them."""
    base = MinedExamples(examples(), [["d3", "d4"], ["d6"], ["d7"]])
    scores = [
        ScoredDoc("q", "d0", 2.5),
        ScoredDoc("q", "d4", -1.0),
        ScoredDoc("q", "d5", 0.5),
        ScoredDoc("r", "d7", 1.0),
    ]
    with caplog.at_level(logging.WARNING):
        taught = ScoredExamples(base, PairScores(scores))
    assert [(e.doc_ids, e.targets) for e in map(taught.__getitem__, range(len(taught)))] == [
        (("d0", "d4"), (2.5, -1.0)),
        (("d5",), (0.5,)),
    ]
    assert "1 of 3 training examples have no teacher's score of their positive" in caplog.text
    assert "1 of 3 training examples have no negative with a teacher's score" in caplog.text
    assert "negatives.candidates=<the file of the scores>" in caplog.text
    with pytest.raises(DataError, match="none of the 3 training examples has a score of its positive and of a"):
        ScoredExamples(base, PairScores(scores[:1]))
