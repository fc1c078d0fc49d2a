"""Training examples: made from judgements, or read from a file of triples or longer lists, with or without scores."""

from __future__ import annotations

import json
import logging
import math
import re
from abc import abstractmethod
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from irexp.dataset.collection import DataError, Examples, Topics
from irexp.dataset.text_file import lines_of, read_id, resolve
from irexp.progress import counted
from irexp.types import Example, Query

log = logging.getLogger(__name__)

#: A number with a decimal point, which ids do not have.
_SCORE = re.compile(r"[+-]?[0-9]*\.[0-9]+(e[+-]?[0-9]+)?", re.IGNORECASE)


class ListedExamples(Examples):
    """A list of examples, each the ids of a query and its documents; held in memory as numbers, 4 bytes per id.

    Without scores the target of the first document is 1 and of all others 0.
    """

    def __init__(self, topics: Topics) -> None:
        """Reads nothing before the first example is requested.

        Args:
            topics: the queries' texts; documents that its judgements call relevant are never negatives.
        """
        self._topics = topics

    @abstractmethod
    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The place of each example in the source, its ids (the query's first), and its scores or None."""

    def __len__(self) -> int:
        return len(self._rows[1]) - 1

    def __getitem__(self, position: int) -> Example:
        numbers, ends, targets, ids = self._rows
        start, end = ends[position], ends[position + 1]
        query = self._queries[ids[numbers[start]]]
        doc_ids = tuple(ids[number] for number in numbers[start + 1 : end])
        if targets:
            return Example(query, doc_ids, tuple(targets[start + 1 : end]))
        return Example(query, doc_ids, (1.0,) + (0.0,) * (len(doc_ids) - 1))

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""
        numbers, ends, _, ids = self._rows
        is_document = np.ones(len(numbers), dtype=bool)
        is_document[np.frombuffer(ends, dtype=np.int64)[:-1]] = False
        named = np.unique(np.frombuffer(numbers, dtype=np.int32)[is_document])
        return {ids[number] for number in named.tolist()}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents that are judged relevant, or are the positive of an example without scores."""
        return self._relevant.get(query_id, frozenset())

    @cached_property
    def _queries(self) -> dict[str, Query]:
        return {query.query_id: query for query in self._topics.queries()}

    @cached_property
    def _relevant(self) -> dict[str, frozenset[str]]:
        relevant: dict[str, set[str]] = defaultdict(set)
        for query_id, doc_ids in relevant_documents(self._topics).items():
            relevant[query_id] |= doc_ids
        numbers, ends, targets, ids = self._rows
        if not targets:
            for start in ends[:-1]:
                relevant[ids[numbers[start]]].add(ids[numbers[start + 1]])
        return {query_id: frozenset(doc_ids) for query_id, doc_ids in relevant.items()}

    @cached_property
    def _rows(self) -> tuple[array[int], array[int], array[float], list[str]]:
        """All examples in three flat arrays (id numbers, ends of examples, targets), and the ids by number."""
        number_of: dict[str, int] = {}
        numbers, ends, targets = array("i"), array("q", [0]), array("f")
        scored: bool | None = None
        for place, ids, scores in counted(self.lines(), unit=" examples", desc="examples", delayed=True):
            if ids[0] not in self._queries:
                raise DataError(f"{place}: the query {ids[0][:80]!r} is not among the training queries")
            if scored not in (None, scores is not None):
                raise DataError(f"{place}: some examples have scores and some have none")
            scored = scores is not None
            numbers.extend(number_of.setdefault(identifier, len(number_of)) for identifier in ids)
            targets.extend([0.0, *scores] if scores is not None else [])
            ends.append(len(numbers))
        if len(ends) == 1:
            raise DataError("there are no training examples; check dataset.train")
        return numbers, ends, targets, list(number_of)


class QrelExamples(ListedExamples):
    """One example per relevant document of each query; the negatives are in-batch negatives."""

    has_scores = False

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """One line per example: queries in the order of the judgements, documents sorted by id."""
        relevant = relevant_documents(self._topics)
        without_text = sum(query_id not in self._queries for query_id in relevant)
        if without_text:
            log.warning("%d judged training queries have no text and are left out", without_text)
        for query_id, doc_ids in relevant.items():
            if query_id in self._queries:
                for doc_id in sorted(doc_ids):
                    yield f"the judgements of {query_id}", [query_id, doc_id], None


class FileExamples(ListedExamples):
    """Examples from a file: one `query_id positive negative …` per line, as TSV or as a JSON list.

    With a teacher's scores, each document of a JSON list is a pair `[doc_id, score]` or `[score, doc_id]`, and a TSV
    line begins with the scores, as in the files for MS MARCO: `score score … query_id positive negative …`; they are
    recognised by the decimal point of the first. All lines of a file have scores, or none has. Ids are read by
    `irexp.types.as_id`.
    """

    def __init__(self, path: str, *, topics: Topics) -> None:
        """Reads nothing before the first example is requested.

        Args:
            path: the file, `.jsonl` or tab-separated, optionally gzip-compressed.
            topics: the queries' texts; documents that its judgements call relevant are never negatives.
        """
        super().__init__(topics)
        self._path = path

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The lines of the file."""
        has_lines = False
        is_json = resolve(self._path).name.removesuffix(".gz").endswith((".jsonl", ".json"))
        for line in lines_of(self._path):
            if not line.text.strip():
                continue
            try:
                if is_json:
                    ids, scores = _from_json(json.loads(line.text))
                else:
                    ids, scores = _from_columns(line.text.rstrip("\r\n").split("\t"))
                if len(ids) < 2:
                    raise ValueError("it has no document")
                if not all(map(math.isfinite, scores or [])):
                    raise ValueError("a score is not finite")
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise DataError(
                    f"{line.place}: not a training example ({str(error)[:80]}); a line is query_id, positive, negative "
                    f"…, tab-separated and preceded by one score per document or none, or a JSON list of these, where "
                    f"a document may be [doc_id, score]"
                ) from None
            has_lines = True
            yield line.place, [read_id(part, line.place) for part in ids], scores
        if not has_lines:
            raise DataError(f"{resolve(self._path)} has no training examples")


def _from_json(fields: object) -> tuple[Sequence[object], list[float] | None]:
    if not isinstance(fields, list):
        raise ValueError("it is not a list")
    pairs = fields[1:]
    if not any(isinstance(pair, list | dict) for pair in pairs):
        return fields, None
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("some documents have scores and some have none")
    pairs = [(second, first) if isinstance(first, float) else (first, second) for first, second in pairs]
    if not all(isinstance(score, int | float) for _, score in pairs):
        raise ValueError("a score is not a number")
    return [fields[0], *(doc_id for doc_id, _ in pairs)], [float(score) for _, score in pairs]


def _from_columns(columns: list[str]) -> tuple[Sequence[object], list[float] | None]:
    if not _SCORE.fullmatch(columns[0]):
        return columns, None
    scores, ids = columns[: len(columns) // 2], columns[len(columns) // 2 :]
    if len(scores) != len(ids) - 1:
        raise ValueError(f"it has {len(scores)} scores and {len(ids) - 1} documents")
    return ids, [float(score) for score in scores]


def relevant_documents(topics: Topics) -> dict[str, frozenset[str]]:
    """The documents judged relevant, per query."""
    relevant: dict[str, set[str]] = defaultdict(set)
    for qrel in topics.qrels():
        if qrel.relevance > 0:
            relevant[qrel.query_id].add(qrel.doc_id)
    return {query_id: frozenset(doc_ids) for query_id, doc_ids in relevant.items()}
