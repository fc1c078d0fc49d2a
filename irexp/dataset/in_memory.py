"""Collections of a program's own texts: documents, queries with judgements, and training examples in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from irexp.dataset.collection import DataError, Documents, Examples, Topics
from irexp.dataset.example_lines import object_examples
from irexp.dataset.qrels import read_qrels
from irexp.types import Document, Example, Qrel, Query, as_id

#: Texts by id; a sequence of texts has its positions as ids: "0", "1", …
Texts = Mapping[str, str] | Sequence[str]

#: The relevant documents of each query by id; a mapping also gives each judged document's grade; or a file of them.
Judgements = Mapping[str, Mapping[str, int] | Iterable[str]] | Iterable[Qrel] | str | Path

_HOW_TO_JUDGE = 'write {"q1": ["d1", "d2"]}, or with grades {"q1": {"d1": 2}}'


class TextDocuments(Documents):
    """Documents in memory."""

    def __init__(self, documents: Texts | Iterable[Document]) -> None:
        """Check the ids.

        Args:
            documents: texts by id, a sequence of texts, or documents.

        Raises:
            DataError: for an id that occurs twice or that a run file cannot hold, and for what is not a text.
        """
        self._text_of = _by_id(documents, "document")

    def __iter__(self) -> Iterator[Document]:
        """Iterate over the documents in their order."""
        return (Document(doc_id, text) for doc_id, text in self._text_of.items())

    def count(self) -> int:
        """How many there are."""
        return len(self._text_of)

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id."""
        return {doc_id: Document(doc_id, self._text_of[doc_id]) for doc_id in doc_ids if doc_id in self._text_of}


class TextTopics(Topics):
    """Queries in memory, with their judgements."""

    def __init__(
        self,
        queries: Texts | Iterable[Query],
        qrels: Judgements = (),
        *,
        relevance: int | None = None,
        remove_query: bool = False,
    ) -> None:
        """Check the ids.

        Args:
            queries: texts by id, a sequence of texts, or queries.
            qrels: the relevant documents of each query, `{"q1": ["d3"]}`, with their grades, `{"q1": {"d3": 2}}`,
                judgements one by one, or the path of a file of BEIR's or TREC's columns; empty without judgements.
            relevance: the smallest relevant grade, for training and binary measures that do not name one; None for 1.
            remove_query: whether the document with the query's own id is not a result.

        Raises:
            DataError: for an id that occurs twice or that a run file cannot hold, and for what is not a text.
        """
        self._text_of = _by_id(queries, "query")
        self._qrels = list(judgements(qrels))
        self.relevance, self.remove_query = relevance, remove_query

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in their order."""
        return (Query(query_id, text) for query_id, text in self._text_of.items())

    def qrels(self) -> Iterator[Qrel]:
        """Iterate over the judgements."""
        return iter(self._qrels)


class TextExamples(Examples):
    """Training examples that are texts: `(query, positive)`, `(query, positive, negative, …)`, or dictionaries."""

    has_scores = False

    def __init__(self, examples: Iterable[Sequence[str] | Mapping[str, Any]]) -> None:
        """Number the texts.

        Args:
            examples: lists or tuples of texts, or dictionaries as `irexp.dataset.example_lines` reads them, such as
                `{"query": …, "positive": …, "negative": …}`; equal queries are one query, whose positives are never
                each other's negatives.

        Raises:
            DataError: if there is no example, or one is not a query with at least one document.
        """
        _check_kind(examples, "example")
        rows = [
            row for number, example in enumerate(() if examples is None else examples) for row in _rows(example, number)
        ]
        if not rows:
            raise DataError("there are no training examples")
        number_of: dict[str, str] = {}
        self._rows = [[_number(text, number_of) for text in row] for row in rows]
        self._text_of = {identifier: text for text, identifier in number_of.items()}
        self._relevant: dict[str, set[str]] = {}
        for query_id, positive, *_ in self._rows:
            self._relevant.setdefault(query_id, set()).add(positive)

    @property
    def documents(self) -> TextDocuments:
        """The texts of the examples as documents."""
        return TextDocuments({doc_id: self._text_of[doc_id] for row in self._rows for doc_id in row[1:]})

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> Example:
        query_id, *doc_ids = self._rows[position]
        return Example(Query(query_id, self._text_of[query_id]), tuple(doc_ids), (1.0,) + (0.0,) * (len(doc_ids) - 1))

    def doc_ids(self) -> set[str]:
        """Every document of every example."""
        return {doc_id for row in self._rows for doc_id in row[1:]}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The positives of all examples of a query."""
        return frozenset(self._relevant.get(query_id, ()))

    def texts(self, collection: Documents) -> Documents:
        """The texts of the examples, then those of the collection."""
        return Joined(collection, self.documents)

    def unknown_doc_ids(self, collection: Documents) -> set[str]:
        """None: the examples hold all texts."""
        return set()


class Joined(Documents):
    """The documents of a collection, and the texts of training examples, which are only looked up."""

    def __init__(self, collection: Documents, examples: Documents) -> None:
        """Nothing is read."""
        self._collection, self._examples = collection, examples

    def __iter__(self) -> Iterator[Document]:
        """Stream the collection."""
        return iter(self._collection)

    def count(self) -> int | None:
        """How many documents the collection has."""
        return self._collection.count()

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look texts of examples up, then documents of the collection."""
        wanted = list(doc_ids)
        found = self._examples.get_many(wanted)
        return found | self._collection.get_many(doc_id for doc_id in wanted if doc_id not in found)


def _rows(example: object, number: int) -> list[Sequence[str]]:
    """The texts of an example, the query's first; of a dictionary, for each of its positives."""
    fault, rows = "", [example]
    if isinstance(example, Mapping):
        try:
            found = object_examples(example)
        except (ValueError, TypeError, AttributeError) as error:
            found, fault = [], f" ({error})"
        if any(one.scores is not None or one.prompt is not None for one in found):
            raise DataError(
                f"training example {number}: {_shown(example)} has scores or a prompt, which are read from a file of "
                f"such JSON lines: irexp.dataset.text_examples.TextFileExamples(path)"
            )
        rows = [None if one.are_ids else one.texts for one in found] or [None]
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) < 2 or not all(isinstance(text, str) for text in row):
            raise DataError(
                f"training example {number}: {_shown(example)} is not a list or tuple of texts, (query, positive) or "
                f'(query, positive, negative, …), nor {{"query": …, "positive": …, "negative": …}}{fault}'
            )
    return rows  # type: ignore[return-value]


def _number(text: str, number_of: dict[str, str]) -> str:
    """The id of a text of an example; the prefix keeps it apart from ids of a collection."""
    return number_of.setdefault(text, f"example text {len(number_of)}")


def _by_id(texts: Texts | Iterable[Document] | Iterable[Query], kind: str) -> dict[str, str]:
    """Texts by id, all of them checked."""
    _check_kind(texts, kind)
    pairs: Iterable[tuple[object, object]]
    if isinstance(texts, Mapping):
        pairs = texts.items()
    elif hasattr(texts, "items"):  # a Series of pandas, whose index often holds numbers
        pairs = [(str(n) if isinstance(n, Integral) else n, text) for n, text in texts.items()]
    else:
        listed = list(texts)
        pairs = [(str(n), text) if isinstance(text, str) else _pair(text, kind) for n, text in enumerate(listed)]
    pairs = list(pairs)
    for identifier, text in pairs:
        if not isinstance(identifier, str) or not isinstance(text, str):
            raise DataError(f"the {kind} {_shown(identifier)} has the text {_shown(text)}; both are strings")
        try:
            if as_id(identifier) != identifier:
                raise ValueError("there are spaces around the id")
        except ValueError as error:
            raise DataError(f"the {kind} {_shown(identifier)}: {error}") from None
    found = {str(identifier): str(text) for identifier, text in pairs}
    if len(found) < len(pairs):
        twice = next(one for one, times in Counter(identifier for identifier, _ in pairs).items() if times > 1)
        raise DataError(f"two {'documents' if kind == 'document' else 'queries'} have the id {twice!r}")
    if not found:
        raise DataError(f"there are no {'documents' if kind == 'document' else 'queries'}")
    return found


def _check_kind(texts: object, kind: str) -> None:
    """Refuse what would be read as other texts than it holds, or with ids that are not always the same."""
    if isinstance(texts, str):
        raise DataError(f"{_shown(texts)} is one text, where a sequence of texts or texts by id is needed: [text]")
    if isinstance(texts, set | frozenset):
        or_ids = "" if kind == "example" else ", or a dictionary: {id: text}"
        raise DataError(f"{_shown(texts)} is a set, whose order gives no ids; pass a list{or_ids}")
    if hasattr(texts, "columns"):
        needed, way = {
            "document": ("texts by id", "dict(zip(table['doc_id'], table['text']))"),
            "query": ("texts by id", "dict(zip(table['query_id'], table['text']))"),
            "example": ("(query, positive, …)", "list(zip(table['query'], table['positive']))"),
        }[kind]
        raise DataError(
            f"a {type(texts).__name__} with columns was given, where {needed} are needed; pass two of its columns, "
            f"such as {way}"
        )


def _pair(record: object, kind: str) -> tuple[object, object]:
    """The id and the text of a document or query."""
    if isinstance(record, tuple) and len(record) == 2:
        return record
    raise DataError(f"{_shown(record)} is not a {kind}: a text, or an id with a text, is needed")


def judgements(qrels: Judgements) -> Iterator[Qrel]:
    """The judgements, one by one.

    Raises:
        DataError: for what is not a judgement, an id that is neither a text nor a whole number, and a broken grade.
    """
    if isinstance(qrels, str | Path):
        yield from read_qrels(str(qrels))
    elif isinstance(qrels, Mapping):
        for query_id, judged in qrels.items():
            if isinstance(judged, str | bytes) or not isinstance(judged, Iterable):
                raise DataError(
                    f"the judgements of {query_id!r} are {_shown(judged)}, which is not a list of documents; "
                    f"{_HOW_TO_JUDGE}"
                )
            grades = judged.items() if isinstance(judged, Mapping) else ((doc_id, 1) for doc_id in judged)
            yield from dict.fromkeys(_judgement(query_id, doc_id, grade) for doc_id, grade in grades)
    elif isinstance(qrels, Iterable):
        for qrel in qrels:
            if hasattr(qrel, "relevance"):  # a record of ir_datasets or ir_measures, which has an iteration, too
                yield _judgement(qrel.query_id, qrel.doc_id, qrel.relevance)
                continue
            if not (isinstance(qrel, tuple) and len(qrel) == 3):
                raise DataError(f"{_shown(qrel)} is not a judgement: (query_id, doc_id, relevance)")
            yield _judgement(*qrel)
    else:
        raise DataError(f"{_shown(qrels)} is not judgements; {_HOW_TO_JUDGE}")


def _judgement(query_id: object, doc_id: object, grade: Any) -> Qrel:
    """A judgement whose ids may be whole numbers, and whose grade may be a float such as 1.0."""
    ids = _judged_id(query_id, "query"), _judged_id(doc_id, "document")
    try:
        if isinstance(grade, str) or int(grade) != grade:
            raise ValueError("it is not a whole number")
        return Qrel(*ids, int(grade))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the relevance of {_shown(doc_id)} to {_shown(query_id)} is {_shown(grade)}: {error}; grades are whole "
            f"numbers, above 0 for what is relevant"
        ) from None


def _judged_id(value: object, kind: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | Integral):
        raise DataError(
            f"a judgement has the {kind} {_shown(value)}, but an id is a text or a whole number; {_HOW_TO_JUDGE}"
        )
    try:
        return as_id(str(value))
    except ValueError as error:
        raise DataError(f"a judgement has the {kind} {_shown(value)}: {error}") from None


def _shown(value: object) -> str:
    """A value in an error message, cut to a length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
