"""Training examples: made from judgements, or read from a file of triples or longer lists, with or without scores."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from irexp.dataset.collection import DataError, Examples, Topics
from irexp.dataset.example_lines import (
    NO_GRADE,
    OBJECTS,
    SOME_HAVE_SCORES,
    Listed,
    json_examples,
    scores_in,
    tsv_example,
)
from irexp.dataset.packed import PackedTexts, first_place
from irexp.dataset.text_file import check_text, lines_of, read_id, resolve
from irexp.progress import counted
from irexp.types import Example, Qrel, Query

log = logging.getLogger(__name__)

#: How the lines of a file are read: JSON, or columns with a teacher's scores in front or without.
Layout = Literal["json", "columns", "scores and columns"]

#: The first lines of a file, which decide its layout.
_LOOKED_AT = 100


@dataclass(frozen=True)
class _Rows:
    """All examples in flat arrays: 4 bytes per document, and the bytes of each id and each query's text once.

    Attributes:
        queries: the ids of the queries.
        texts: their texts.
        documents: the ids of the documents.
        query_N: the query of each example.
        numbers: the documents of all examples, one after another.
        ends: where the documents of each example end in them, after a first 0.
        targets: their targets; empty without scores.
        query_R, document_R: the relevant pairs, sorted by query.
    """

    queries: PackedTexts
    texts: PackedTexts
    documents: PackedTexts
    query_N: array[int]
    numbers: array[int]
    ends: array[int]
    targets: array[float]
    query_R: NDArray[np.int32]
    document_R: NDArray[np.int32]


class ListedExamples(Examples):
    """A list of examples, each the ids of a query and its documents; held in memory as numbers, 4 bytes per id.

    Without scores the target of the first document is 1 and of all others 0.
    """

    #: Whether an example whose query has no text is left out instead of being an error.
    skips_unknown_queries: ClassVar[bool] = False

    #: Whether the targets are grades, known when all `lines` are read: documents above 0 are relevant.
    targets_are_grades: bool = False

    def __init__(self, topics: Topics | None) -> None:
        """Reads nothing before the first example is requested.

        Args:
            topics: the queries' texts; documents that its judgements call relevant are never negatives. None if
                `read_queries` does without it.
        """
        self._topics = topics

    @abstractmethod
    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The place of each example in the source, its ids (the query's first), and its scores or None."""

    def read_queries(self) -> Iterator[Query]:
        """The queries, with some that no example has or not."""
        assert self._topics is not None
        return self._topics.queries()

    def __len__(self) -> int:
        return len(self._rows.query_N)

    def __getitem__(self, position: int) -> Example:
        rows = self._rows
        number, start, end = rows.query_N[position], rows.ends[position], rows.ends[position + 1]
        query = Query(rows.queries[number], rows.texts[number])
        doc_ids = tuple(rows.documents[document] for document in rows.numbers[start:end])
        if rows.targets:
            return Example(query, doc_ids, tuple(rows.targets[start:end]))
        return Example(query, doc_ids, (1.0,) + (0.0,) * (len(doc_ids) - 1))

    def doc_ids(self) -> set[str]:
        """The ids of all documents in the examples."""
        named = np.unique(np.frombuffer(self._rows.numbers, dtype=np.int32))
        return {self._rows.documents[number] for number in named.tolist()}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The documents that are judged relevant, or are the positive of an example; the query's own, if it is one."""
        rows = self._rows
        own = {query_id} if self._topics is not None and self._topics.remove_query else set()
        if (number := rows.queries.find(query_id)) is None:
            return frozenset(own)
        start, end = (first_place(rows.query_R, one) for one in (number, number + 1))
        return frozenset(own.union(rows.documents[document] for document in rows.document_R[start:end].tolist()))

    @cached_property
    def _rows(self) -> _Rows:
        queries, texts, documents = PackedTexts(), PackedTexts(), PackedTexts()
        query_number: dict[str, int] = {}
        for query in self.read_queries():
            known = query_number.setdefault(query.query_id, len(query_number))
            if known == len(queries):
                queries.append(query.query_id)
                texts.append(query.text)
            elif texts[known].strip() != query.text.strip():
                raise DataError(
                    f"the training query {query.query_id!r} has two texts, {texts[known][:60]!r} and "
                    f"{query.text[:60]!r}; two files with the same ids may have been joined; give each query its own id"
                )
        number_of: dict[str, int] = {}

        def number(doc_id: str) -> int:
            if doc_id not in number_of:
                number_of[doc_id] = len(number_of)
                documents.append(doc_id)
            return number_of[doc_id]

        query_N, numbers, ends, targets = array("i"), array("i"), array("q", [0]), array("f")
        scored: bool | None = None
        unknown: set[str] = set()
        for place, ids, scores in counted(self.lines(), unit=" examples", desc="examples", delayed=True):
            if ids[0] not in query_number:
                if not self.skips_unknown_queries:
                    raise DataError(f"{place}: the query {ids[0][:80]!r} is not among the training queries")
                unknown.add(ids[0])
                continue
            if scored not in (None, scores is not None):
                raise DataError(f"{place}: {SOME_HAVE_SCORES}")
            scored = scores is not None
            if not all(map(math.isfinite, scores or [])):
                raise DataError(f"{place}: a score is not finite, and teaches nothing; remove the document")
            query_N.append(query_number[ids[0]])
            numbers.extend(map(number, ids[1:]))
            targets.extend(scores or [])
            ends.append(len(numbers))
        if unknown:
            log.warning("%d judged training queries have no text and are left out", len(unknown))
        if not query_N:
            raise DataError("there are no training examples; check dataset.train")
        relevant = array("q")
        for qrel in relevant_qrels(self._topics) if self._topics is not None else ():
            if qrel.query_id in query_number:
                relevant.append(query_number[qrel.query_id] << 32 | number(qrel.doc_id))
        if self.is_positive_first:
            relevant.extend(query << 32 | numbers[end] for query, end in zip(query_N, ends, strict=False))
        if self.targets_are_grades:
            spans = enumerate(pairwise(ends))
            relevant.extend(query_N[n] << 32 | numbers[d] for n, span in spans for d in range(*span) if targets[d] > 0)
        pair_R = np.unique(np.frombuffer(relevant, dtype=np.int64))
        query_R, document_R = (pair_R >> 32).astype(np.int32), (pair_R & 0xFFFFFFFF).astype(np.int32)
        return _Rows(queries, texts, documents, query_N, numbers, ends, targets, query_R, document_R)


class QrelExamples(ListedExamples):
    """One example per relevant document of each query; the negatives are in-batch negatives."""

    has_scores = False
    has_negatives = False
    skips_unknown_queries = True

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """One line per example: queries in the order of the judgements, documents sorted by id."""
        assert self._topics is not None
        for query_id, doc_ids in relevant_documents(self._topics).items():
            for doc_id in sorted(doc_ids):
                yield f"the judgements of {query_id}", [query_id, doc_id], None


class FileExamples(ListedExamples):
    """Examples from a file of ids: one `query_id positive negative …` per line, as TSV or as a JSON list or object.

    With a teacher's scores, each document of a JSON list is a pair `[doc_id, score]` or `[score, doc_id]` (ColBERT),
    and a TSV line begins with the scores, as in the files for MS MARCO (Hofstätter et al. 2020): `score score …
    query_id positive negative …`; see `layout_of`. An object has the keys of
    Tevatron, `query_id`, `query_text`, `positive_document_ids` and `negative_document_ids`, or of PyLate, `query_id`,
    `document_ids` and `scores`, of which the document with the highest is the positive; elsewhere it is the first one.
    If all lines are such lists and all their scores are whole numbers from 0, they are grades, and all documents above
    0 are relevant. All lines of a file have scores, or none has. Ids are read by `irexp.types.as_id`.
    """

    def __init__(self, path: str, *, topics: Topics | None = None) -> None:
        """Reads nothing before the first example is requested.

        Args:
            path: the file, `.jsonl` or tab-separated, optionally gzip-compressed.
            topics: the queries' texts; documents that its judgements call relevant are never negatives. None if each
                line holds its query's text, as Tevatron's do.
        """
        super().__init__(topics)
        self._path = path

    def read_queries(self) -> Iterator[Query]:
        """The given queries, or those of the lines."""
        if self._topics is not None:
            yield from self._topics.queries()
            return
        for place, found in listed_in(self._path, layout_of(self._path)):
            if found.text is None:
                raise DataError(f"{place}: it has no text of its query; set dataset.train.topics")
            yield Query(read_id(found.query, place), check_text(found.text, place))

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """The lines of the file."""
        without = None
        self.targets_are_grades = True
        for place, found in listed_in(self._path, layout_of(self._path, self._some_are_queries)):
            relevant = found.relevant if self.targets_are_grades else None
            self.targets_are_grades = relevant is not None
            without = place if relevant == 0 and without is None else without
            yield place, [read_id(part, place) for part in found.ids], found.scores
        if self.targets_are_grades and without is not None:
            raise DataError(f"{without}: {NO_GRADE}")

    def _some_are_queries(self, texts: Iterable[str]) -> bool:
        return not {text.strip() for text in texts}.isdisjoint(query.query_id for query in self.read_queries())


def listed_in(path: str, layout: Layout) -> Iterator[tuple[str, Listed]]:
    """The examples of a file of lists, each with its place.

    Raises:
        DataError: naming the line, and what a line should be.
    """
    has_lines = False
    for line in lines_of(path):
        if line.text.strip():
            has_lines = True
            for found in parsed(line.text, line.place, layout):
                yield line.place, found
    if not has_lines:
        raise DataError(f"{resolve(path)} has no training examples")


def layout_of(path: str, are_queries: Callable[[Iterable[str]], bool] = lambda _: False) -> Layout:
    """How the lines of a file are read: by its name as JSON or as columns.

    A teacher's scores are in front of the columns if most of the first lines begin with a number, and some with one
    that has a decimal point.

    Args:
        path: the file.
        are_queries: whether some of these beginnings, which have the form of scores, are known queries, not scores.
    """
    if resolve(path).name.removesuffix(".gz").endswith((".jsonl", ".json")):
        return "json"
    looked_at = islice((line.text for line in lines_of(path) if line.text.strip()), _LOOKED_AT)
    scores = scores_in([text.rstrip("\r\n").split("\t")[0] for text in looked_at])
    if not scores:
        return "columns"
    are_scores = not are_queries(scores)
    log.info(
        "%s: numbers in the first column, such as %s, are %s",
        path,
        scores[0],
        "a teacher's scores" if are_scores else "queries",
    )
    return "scores and columns" if are_scores else "columns"


def parsed(text: str, place: str, layout: Layout) -> list[Listed]:
    """The examples of a line.

    Raises:
        DataError: naming the line, and what a line should be.
    """
    try:
        if layout == "json":
            return json_examples(text)
        return [tsv_example(text, has_scores=layout == "scores and columns")]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{place}: not a training example ({str(error)[:100]}); a line is query, positive, negative …, "
            f"tab-separated and preceded by one score per document or none, or a JSON list of these, where a document "
            f"may be [document, score], or an object: {OBJECTS}"
        ) from None


def relevant_qrels(topics: Topics) -> Iterator[Qrel]:
    """The judgements of relevant documents: of grade 1 or, if the topics say so, of a higher one.

    Raises:
        DataError: if the smallest relevant grade is below 1.
    """
    least = 1 if topics.relevance is None else topics.relevance
    if least < 1:
        raise DataError(f"relevance={least} of training queries: the smallest relevant grade is at least 1")
    return (qrel for qrel in topics.qrels() if qrel.relevance >= least)


def relevant_documents(topics: Topics) -> dict[str, frozenset[str]]:
    """The documents judged relevant, per query."""
    relevant: dict[str, set[str]] = defaultdict(set)
    for qrel in relevant_qrels(topics):
        relevant[qrel.query_id].add(qrel.doc_id)
    return {query_id: frozenset(doc_ids) for query_id, doc_ids in relevant.items()}
