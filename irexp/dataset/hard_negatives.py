"""Negatives that several systems mined for each query, as sentence-transformers publishes them for MS MARCO.

A line is `{"qid": …, "pos": [doc_id, …], "neg": {system: [doc_id, …], …}}`. A second file may hold the scores of a
cross-encoder, by which probable positives are left out of the negatives, and which a student can learn.
"""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from irexp.artifact.run_lines import read_run
from irexp.dataset.collection import DataError, Topics
from irexp.dataset.examples import ListedExamples
from irexp.dataset.text_file import lines_of, opened_file, read_id, resolve

log = logging.getLogger(__name__)

#: The scores of each query's documents.
Scores = Mapping[str, Mapping[str, float]]


class HardNegativeExamples(ListedExamples):
    """One example per positive of each query; its negatives are those of the systems, best ranks first."""

    def __init__(
        self,
        path: str,
        *,
        topics: Topics,
        systems: list[str] | None = None,
        per_system: int | None = None,
        scores_path: str | None = None,
        margin: float | None = None,
        targets_are_scores: bool = True,
    ) -> None:
        """Reads nothing before the first example is requested.

        Args:
            path: the file, JSONL, optionally gzip-compressed.
            topics: the queries' texts; documents that its judgements call relevant are never negatives.
            systems: the systems whose negatives are used; None for all.
            per_system: the first negatives of each system that are used; None for all.
            scores_path: a cross-encoder's scores: a pickle of `{qid: {doc_id: score}}` (read without running code in
                it, and held in memory), JSON lines `[qid, {doc_id: score}]`, or a TREC run. Documents without a
                score are left out.
            margin: a negative whose score is above that of the positive less this margin is left out, as a probable
                positive; None for no such filter.
            targets_are_scores: whether the scores are the targets; if not, they only filter.

        Raises:
            DataError: if there is a margin and no scores, or no negative would be used.
        """
        super().__init__(topics)
        if systems == [] or (per_system is not None and per_system < 1):
            raise DataError(
                f"dataset.train.systems={systems} and per_system={per_system} leave no negatives; null uses all"
            )
        if margin is not None and scores_path is None:
            raise DataError(f"dataset.train.margin={margin} compares scores; set dataset.train.scores_path")
        self._path, self._systems, self._per_system = path, systems, per_system
        self._scores_path, self._margin, self._targets_are_scores = scores_path, margin, targets_are_scores

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The examples in the order of the file."""
        scores = None if self._scores_path is None else read_scores(self._scores_path)
        left_out = without = 0
        seen: set[str] = set()
        for line in lines_of(self._path):
            if not line.text.strip():
                continue
            query_id, positives, negatives = self._parsed(line.text, line.place, seen)
            for positive in positives:
                ids = [positive, *(doc_id for doc_id in negatives if doc_id not in positives)]
                if scores is None:
                    yield line.place, [query_id, *ids], None
                    continue
                score_of = scores.get(query_id, {})
                if positive not in score_of:
                    without += 1
                    continue
                highest = float("inf") if self._margin is None else score_of[positive] - self._margin
                kept = [positive, *(d for d in ids[1:] if d in score_of and score_of[d] <= highest)]
                left_out += len(ids) - len(kept)
                yield line.place, [query_id, *kept], [score_of[d] for d in kept] if self._targets_are_scores else None
        if unknown := sorted(set(self._systems or ()) - seen):
            raise DataError(
                f"dataset.train.systems: no line of {self._path} has negatives of {', '.join(unknown)}; it has those "
                f"of {', '.join(sorted(seen)) or 'none'}"
            )
        if left_out:
            log.info("%s: %d negatives have no score or one too near to the positive's", self._path, left_out)
        if without:
            log.warning("%s: %d examples are left out, since their positive has no score", self._path, without)

    def _parsed(self, text: str, place: str, seen: set[str]) -> tuple[str, list[str], list[str]]:
        """The query, its positives, and the negatives of the chosen systems: all of rank 1, then all of rank 2.

        The names of the line's systems are added to `seen`.
        """
        try:
            fields = json.loads(text)
            query_id, by_system = fields["qid"], fields["neg"]
            if not isinstance(fields["pos"], list):
                raise TypeError("its positives are not a list")
            positives = [read_id(doc_id, place) for doc_id in fields["pos"]]
            seen.update(by_system)
            chosen = [ids for name, ids in by_system.items() if self._systems is None or name in self._systems]
            if not all(isinstance(ids, list) for ids in chosen):
                raise TypeError("the negatives of a system are not a list")
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f'{place}: not a query with mined negatives ({str(error)[:80]}); a line is {{"qid": 1, "pos": [2], '
                f'"neg": {{"bm25": [3, 4], "another system": [4, 5]}}}}'
            ) from None
        ranks: Iterable[tuple[object, ...]] = zip_longest(*(ids[: self._per_system] for ids in chosen))
        ordered = (read_id(doc_id, place) for rank in ranks for doc_id in rank if doc_id is not None)
        return read_id(query_id, place), positives, list(dict.fromkeys(ordered))


def read_scores(path: str) -> Scores:
    """The scores of each query's documents.

    Args:
        path: a pickle, JSON lines, or a TREC run; each optionally gzip-compressed.

    Raises:
        DataError: if the file is none of these.
    """
    name = resolve(path).name.removesuffix(".gz")
    if name.endswith((".pkl", ".pickle")):
        return _from_pickle(path)
    found: dict[str, dict[str, float]] = {}
    if not name.endswith((".jsonl", ".json")):
        for query_id, doc_id, score in read_run(resolve(path)):
            found.setdefault(query_id, {})[doc_id] = score
        return found
    for line in lines_of(path):
        if line.text.strip():
            try:
                query_id, scores = json.loads(line.text)
                _add_scores(found, query_id, scores, line.place)
            except DataError:
                raise
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(
                    f'{line.place}: not the scores of a query ({str(error)[:80]}); a line is [1, {{"2": 0.5}}]: the '
                    f"query, and a score per document"
                ) from None
    return found


def _add_scores(
    found: dict[str, dict[str, float]], query_id: object, scores: Mapping[object, float], place: str
) -> None:
    """Add the scores of a query's documents to those that are found.

    Raises:
        DataError: if an id is not one, or a document has another score already.
        ValueError: if a score is not a finite number.
    """
    query = read_id(query_id, place)
    of_query = found.setdefault(query, {})
    for doc_id, value in scores.items():
        document = str(doc_id) if type(doc_id) is int else read_id(doc_id, place)
        score = float(value)
        if not math.isfinite(score):
            raise ValueError(f"the score of {document} is not finite")
        if of_query.setdefault(document, score) != score:
            raise DataError(f"{place}: the query {query!r} has two scores of the document {document!r}; keep one")


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries and numbers, and runs nothing that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def _from_pickle(path: str) -> Scores:
    scores_of: dict[str, dict[str, float]] = {}
    with opened_file(path) as file:
        try:
            for query_id, scores in _PlainUnpickler(file).load().items():
                _add_scores(scores_of, query_id, scores, path)
        except DataError:
            raise
        except (pickle.UnpicklingError, AttributeError, ValueError, TypeError, IndexError) as error:
            raise DataError(
                f"{path}: not a pickle of {{qid: {{doc_id: score}}}} with plain numbers ({str(error)[:80]}); write the "
                f"scores as JSON lines [qid, {{doc_id: score}}] or as a TREC run"
            ) from None
    return scores_of
