"""Training examples: made from judgements, or read from a file of triples, of longer lists, or of teacher's scores."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from array import array
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from tqdm import tqdm

from irexp.dataset.collection import DataError, Examples, Topics
from irexp.dataset.text_file import lines_of, resolve
from irexp.types import Example, Query

log = logging.getLogger(__name__)


class ListedExamples(Examples):
    """Examples by id, one after the other: a query with its documents; held as numbers, 4 bytes an id.

    Without scores the first document's target is 1 and that of the others is 0.
    """

    def __init__(self, topics: Topics) -> None:
        """Nothing is read before the first example is asked for.

        Args:
            topics: the queries' texts; its judgements, if any, tell which documents are never negatives.
        """
        self._topics = topics

    @abstractmethod
    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The place, the ids (the query's first) and, where there are any, the scores of each example."""

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
        """Every document of every example."""
        numbers, ends, _, ids = self._rows
        is_document = np.ones(len(numbers), dtype=bool)
        is_document[np.frombuffer(ends, dtype=np.int64)[:-1]] = False
        named = np.unique(np.frombuffer(numbers, dtype=np.int32)[is_document])
        return {ids[number] for number in named.tolist()}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents that are judged relevant, and those that come first in an example without scores."""
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
        """All examples in three flat arrays: numbers of ids, where examples end, targets; and the ids."""
        number_of: dict[str, int] = {}
        numbers, ends, targets = array("i"), array("q", [0]), array("f")
        scored: bool | None = None
        for place, ids, scores in tqdm(self.lines(), unit=" examples", desc="examples", delay=2, disable=None):
            if ids[0] not in self._queries:
                raise DataError(f"{place}: the query {ids[0]!r} is not among the training queries")
            if scored not in (None, scores is not None):
                raise DataError(f"{place}: some examples have scores and some have none")
            scored = scores is not None
            numbers.extend(number_of.setdefault(identifier, len(number_of)) for identifier in ids)
            targets.extend([0.0, *scores] if scores is not None else [])
            ends.append(len(numbers))
        if len(ends) == 1:
            raise DataError("there are no training examples; look at dataset.train")
        return numbers, ends, targets, list(number_of)


class QrelExamples(ListedExamples):
    """One example for each relevant document of each query; negatives come from the batch."""

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """Queries in the order of the judgements, documents by id."""
        relevant = relevant_documents(self._topics)
        without_text = sum(query_id not in self._queries for query_id in relevant)
        if without_text:
            log.warning("%d judged training queries have no text and are left out", without_text)
        for query_id, doc_ids in relevant.items():
            if query_id in self._queries:
                for doc_id in sorted(doc_ids):
                    yield f"the judgements of {query_id}", [query_id, doc_id], None


class FileExamples(ListedExamples):
    """Examples from a file: `query_id positive negative …` a line, as TSV or as a JSON list.

    In a JSON list a document may be a pair `[doc_id, score]` or `[score, doc_id]` with a teacher's score; then every
    document of the file is one.
    """

    def __init__(self, path: str, *, topics: Topics) -> None:
        """Nothing is read before the first example is asked for.

        Args:
            path: the file, `.jsonl` or tab-separated, gzip too.
            topics: the queries' texts; its judgements, if any, tell which documents are never negatives.
        """
        super().__init__(topics)
        self._path = path

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The lines of the file."""
        is_json = resolve(self._path).name.removesuffix(".gz").endswith((".jsonl", ".json"))
        for line in lines_of(self._path):
            if not line.text.strip():
                continue
            try:
                fields = json.loads(line.text) if is_json else line.text.rstrip("\r\n").split("\t")
                ids, scores = _ids_and_scores(fields)
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"{line.place}: no example ({error}); a line is query_id, positive, negative …, tab-separated, or "
                    f"a JSON list of these, where a document may be [doc_id, score]"
                ) from None
            yield line.place, ids, scores


def _ids_and_scores(fields: object) -> tuple[list[str], list[float] | None]:
    if not isinstance(fields, list):
        raise ValueError("it is no list")
    query_id, *documents = fields
    if not documents:
        raise ValueError("it has no document")
    if not isinstance(documents[0], list):
        if any(isinstance(document, list | dict) for document in documents):
            raise ValueError("some documents have scores and some have none")
        return [str(query_id), *map(str, documents)], None
    doc_ids, scores = [], []
    for document in documents:
        first, second = document
        doc_id, score = (second, first) if isinstance(first, float) else (first, second)
        doc_ids.append(str(doc_id))
        scores.append(float(score))
    return [str(query_id), *doc_ids], scores


def relevant_documents(topics: Topics) -> dict[str, frozenset[str]]:
    """The documents of each query that are judged relevant."""
    relevant: dict[str, set[str]] = defaultdict(set)
    for qrel in topics.qrels():
        if qrel.relevance > 0:
            relevant[qrel.query_id].add(qrel.doc_id)
    return {query_id: frozenset(doc_ids) for query_id, doc_ids in relevant.items()}
