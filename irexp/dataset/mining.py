"""Hard negatives that are mined from runs, without those that are likely to be relevant.

The filters are those of NV-Retriever (Moreira et al. 2024, arXiv:2407.15831, section 3): a rank window, bounds of the
score, and an absolute or relative margin to the score of the positive. With the scores of a re-ranker, as in RocketQA
(Qu et al. 2021, arXiv:2010.08191), these decide in place of the run's own.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from irexp.config.schema import Negatives
from irexp.dataset.collection import DataError, Examples, is_labelled
from irexp.dataset.derived import DerivedExamples
from irexp.dataset.scores import PairScores
from irexp.dataset.text_file import lines_of
from irexp.progress import counted
from irexp.types import Example, Query

log = logging.getLogger(__name__)

#: The file of the examples in the folder of an artifact.
EXAMPLES = "examples.jsonl"

#: What becomes of a candidate.
Outcome = Literal[
    "kept",
    "known to be relevant",
    "skipped",
    "without a score",
    "below the lowest score",
    "above the highest score",
    "positive without a score",
    "too close to the positive",
    "not sampled",
]

#: The last rank of each bin of the histogram; the last bin has all further ranks.
_BINS = (1, 3, 10, 30, 100, 300, 1000)


class Candidates(NamedTuple):
    """The run that negatives are mined from: the documents of each query, best first, and their scores."""

    rankings: Mapping[str, Sequence[str]]
    scores: PairScores


@dataclass(frozen=True)
class _Candidate:
    """A document that one or several runs have found for a query: its best rank, and what became of it."""

    doc_id: str
    rank: int
    score: float | None
    outcome: Outcome


class MinedExamples(DerivedExamples):
    """Training examples with mined negatives; they keep their own.

    Attributes:
        histogram: the number of candidates for each outcome and the last rank of its bin; 0 for the last bin.
    """

    has_scores = False

    def __init__(self, examples: Examples, negatives: Sequence[Sequence[str]]) -> None:
        """Join examples and negatives.

        Args:
            examples: the training examples.
            negatives: further negatives, for each example.
        """
        assert len(examples) == len(negatives)
        super().__init__(examples)
        self._negatives = negatives
        self.histogram: Counter[tuple[Outcome, int]] = Counter()

    def __getitem__(self, position: int) -> Example:
        example, negatives = self._examples[position], self._negatives[position]
        targets = (*example.targets, *[0.0] * len(negatives))
        return example._replace(doc_ids=(*example.doc_ids, *negatives), targets=targets)

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""
        return super().doc_ids() | {doc_id for negatives in self._negatives for doc_id in negatives}

    def counts(self) -> dict[str, float]:
        """The numbers of examples, of examples without a mined negative, and of candidates for each outcome."""
        found = {
            "examples": float(len(self)),
            "without_negatives": float(sum(not negatives for negatives in self._negatives)),
        }
        for (outcome, _), count in self.histogram.items():
            name = outcome.replace(" ", "_")
            found[name] = found.get(name, 0.0) + count
        return found

    def write(self, folder: Path) -> None:
        """Write the examples, in the format of `FileExamples`, and histogram.csv into a folder."""
        with open(folder / EXAMPLES, "w", encoding="utf8") as file:
            for position in range(len(self)):
                example = self[position]
                file.write(json.dumps([example.query.query_id, *example.doc_ids], ensure_ascii=False) + "\n")
        lines = ["outcome,ranks,candidates"]
        first = dict(zip((*_BINS, 0), (1, *(last + 1 for last in _BINS)), strict=True))
        for (outcome, last), count in sorted(self.histogram.items(), key=lambda item: (item[0][0], first[item[0][1]])):
            ranks = f"{first[last]}-{last}" if last else f"{first[last]}-"
            lines.append(f"{outcome},{ranks},{count}")
        (folder / "histogram.csv").write_text("\n".join(lines) + "\n", encoding="utf8")


def read_mined(folder: Path, examples: Examples) -> MinedExamples:
    """The examples that `MinedExamples.write` wrote, over those that they were made from.

    Raises:
        DataError: if a line belongs to another example.
    """
    negatives = []
    for position, line in enumerate(lines_of(str(folder / EXAMPLES))):
        query_id, *doc_ids = json.loads(line.text)
        own = examples[position].doc_ids if position < len(examples) else ()
        if not own or query_id != examples[position].query.query_id or tuple(doc_ids[: len(own)]) != own:
            raise DataError(f"{line.place}: this is not example {position} of dataset.train; run stage=mine again")
        negatives.append(doc_ids[len(own) :])
    return MinedExamples(examples, negatives)


def mine_negatives(
    examples: Examples,
    runs: Sequence[Candidates],
    scores: PairScores | None,
    settings: Negatives,
    *,
    seed: int,
    shown: bool = True,
) -> MinedExamples:
    """Choose the negatives of each example.

    A document that several runs have found is kept only if it passes the filters in each of them. Kept ones are in the
    order of the re-ranker's scores if there are any, else of their best ranks.

    Args:
        examples: the training examples, with relevance as targets.
        runs: over the training queries.
        scores: of a re-ranker, positives included; None to filter by the runs' own scores.
        settings: the filters, and how many negatives are kept.
        seed: decides which negatives are drawn at random.
        shown: whether a progress bar is shown.

    Raises:
        DataError: if no example gets a negative, or if examples have a teacher's scores or grades, which the mined
            negatives and their file lack.
    """
    negatives: list[list[str]] = []
    histogram: Counter[tuple[Outcome, int]] = Counter()
    for position in counted(range(len(examples)), desc="mine", unit=" examples", shown=shown):
        example = examples[position]
        if not is_labelled(example):
            raise DataError(
                f"the training example of {example.query.query_id} has a teacher's scores or grades, and mined "
                f"negatives have none; use negatives=none (or, for grades, bm25), or examples with one positive each"
            )
        known = examples.relevant_doc_ids(example.query.query_id) | set(example.doc_ids)
        found = _candidates(example.query, example.doc_ids[0], known, runs, scores, settings)
        passed = [one for one in found if one.outcome == "kept"]
        if scores is not None:
            passed.sort(key=lambda one: (one.score is None, -(one.score or 0.0), one.doc_id))
        drawn = _drawn(passed, settings, (seed, position))
        kept = {one.doc_id for one in drawn}
        for one in found:
            is_dropped = one.outcome == "kept" and one.doc_id not in kept
            histogram["not sampled" if is_dropped else one.outcome, _bin(one.rank)] += 1
        negatives.append([one.doc_id for one in drawn])
    mined = MinedExamples(examples, negatives)
    mined.histogram = histogram
    _report(mined, is_re_scored=scores is not None)
    return mined


def _report(mined: MinedExamples, *, is_re_scored: bool) -> None:
    """Log what was kept and what was dropped.

    Raises:
        DataError: if nothing was kept.
    """
    outcomes: Counter[str] = Counter()
    for (outcome, _), count in mined.histogram.items():
        outcomes[outcome] += count
    words = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    if not outcomes["kept"]:
        raise DataError(f"no negative is left after the filters of negatives.…: {words or 'the runs are empty'}")
    log.info("mine: %s candidates of %s examples: %s", f"{outcomes.total():,}", f"{len(mined):,}", words)
    if without := int(mined.counts()["without_negatives"]):
        log.warning("%d of %d training examples get no negative", without, len(mined))
    if outcomes["positive without a score"]:
        log.warning(
            "the margin drops all candidates of an example whose positive has no score; %s",
            "score again with stage=score"
            if is_re_scored
            else "set negatives.scores=[model=…], which scores positives",
        )


def _candidates(
    query: Query,
    positive: str,
    known: frozenset[str] | set[str],
    runs: Sequence[Candidates],
    scores: PairScores | None,
    settings: Negatives,
) -> list[_Candidate]:
    """The candidates of an example, each once, by their best rank."""
    found: dict[str, _Candidate] = {}
    for run in runs:
        doc_ids = list(run.rankings.get(query.query_id, ()))[: settings.depth]
        table = run.scores if scores is None else scores
        best, *own = table.of(query.query_id, [positive, *doc_ids])
        outcome_of = _filter(settings, best, is_re_scored=scores is not None)
        for rank, (doc_id, score) in enumerate(zip(doc_ids, own, strict=True), start=1):
            outcome: Outcome = "known to be relevant" if doc_id in known else outcome_of(rank, score)
            before = found.get(doc_id)
            if before is None:
                found[doc_id] = _Candidate(doc_id, rank, score, outcome)
            else:
                worse = outcome if before.outcome == "kept" else before.outcome
                found[doc_id] = _Candidate(doc_id, min(rank, before.rank), before.score, worse)
    return sorted(found.values(), key=lambda one: one.rank)  # stable: of equal ranks, the first run's first


def _filter(
    settings: Negatives, positive: float | None, *, is_re_scored: bool
) -> Callable[[int, float | None], Outcome]:
    """The function that decides on a candidate from its rank and its score, which a re-ranker's order needs, too."""
    margins = (settings.absolute_margin, settings.relative_margin)
    has_margin = any(margin is not None for margin in margins)
    by_score = is_re_scored or has_margin or settings.min_score is not None or settings.max_score is not None
    limits: list[float] = []
    if positive is not None and settings.absolute_margin is not None:
        limits.append(positive - settings.absolute_margin)
    if positive is not None and settings.relative_margin is not None:
        limits.append(positive - settings.relative_margin * abs(positive))  # a logit may be negative
    highest = min(limits, default=None)

    def outcome(rank: int, score: float | None) -> Outcome:
        if rank <= (settings.skip or 0):
            return "skipped"
        if not by_score:
            return "kept"
        if score is None:
            return "without a score"
        if settings.min_score is not None and score < settings.min_score:
            return "below the lowest score"
        if settings.max_score is not None and score > settings.max_score:
            return "above the highest score"
        if has_margin and highest is None:
            return "positive without a score"
        return "kept" if highest is None or score <= highest else "too close to the positive"

    return outcome


def _drawn(passed: list[_Candidate], settings: Negatives, seeds: tuple[int, int]) -> list[_Candidate]:
    """The negatives that are kept, in order."""
    if settings.keep is None or len(passed) <= settings.keep:
        return passed
    if settings.keep_by != "random":
        return passed[: settings.keep]
    places = np.random.default_rng(seeds).choice(len(passed), size=settings.keep, replace=False)
    return [passed[place] for place in sorted(places.tolist())]


def _bin(rank: int) -> int:
    """The last rank of a rank's bin; 0 for the last bin."""
    return next((last for last in _BINS if rank <= last), 0)
