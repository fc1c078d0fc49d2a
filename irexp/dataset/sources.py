"""Collections by what a program has of them: texts, files, a folder in BEIR's layout, an id of ir_datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irexp.artifact.content import exists
from irexp.dataset.collection import DataError, Documents, Examples, Topics
from irexp.dataset.examples import QrelExamples
from irexp.dataset.in_memory import Judgements, TextDocuments, TextExamples, Texts, TextTopics, judgements
from irexp.dataset.irds import IrdsDocuments, IrdsTopics
from irexp.dataset.irds_part import nearest_id
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.types import Document, Query

#: What `open_documents` opens.
DocumentSource = Documents | Texts | Iterable[Document] | str | Path

#: What `open_topics` opens.
TopicSource = Topics | Texts | Iterable[Query] | str | Path

#: What `open_examples` opens.
ExampleSource = Examples | Topics | Iterable[Sequence[str] | Mapping[str, Any]] | str | Path


def open_documents(source: DocumentSource) -> Documents:
    """The documents of a collection.

    Args:
        source: documents; texts by id, or in a sequence; a folder in BEIR's layout; a file (JSONL, TSV, CSV, TREC); an
            id of ir_datasets, such as "beir/scifact".

    Raises:
        DataError: if there is no such collection; a file is read when its documents are.
    """
    if isinstance(source, Documents):
        return source
    if isinstance(source, Topics | Examples):
        raise DataError(f"documents are {type(source).__name__}, not a collection; open that with open_documents")
    if not isinstance(source, str | Path):
        return TextDocuments(source)
    if (path := _path(source)) is None:
        return IrdsDocuments(str(source))
    return LocalDocuments(str(path / "corpus.jsonl" if path.is_dir() else path))


def open_topics(source: TopicSource, qrels: Judgements | None = None, *, split: str = "test") -> Topics:
    """The queries of a collection, with their judgements where it has some.

    Args:
        source: topics; texts by id, or in a sequence; a folder in BEIR's layout; a file of queries; an id of
            ir_datasets.
        qrels: of texts or of a file of queries: the relevant documents of each query, `{"q1": ["d3"]}`, with grades
            `{"q1": {"d3": 2}}`, or the path of a file; of a file of queries only those with judgements are then used.
        split: of a folder, whose judgements are `qrels/<split>.tsv`; an id of ir_datasets names its split itself.

    Raises:
        DataError: if there is no such collection; a file is read when its queries are.
    """
    if not isinstance(source, Topics | str | Path):
        return TextTopics(source, () if qrels is None else qrels)
    path = None if isinstance(source, Topics) else _path(source)
    if path is not None and not path.is_dir():
        return _queries_of(str(path), qrels)
    if qrels is not None:
        name = type(source).__name__ if isinstance(source, Topics) else source
        raise DataError(f"{name} has its own judgements; qrels=… are the judgements of texts or of a file of queries")
    if isinstance(source, Topics):
        return source
    if path is None:
        return IrdsTopics(str(source))
    return LocalTopics(str(path / "queries.jsonl"), qrels_path=str(path / "qrels" / f"{split}.tsv"))


def _queries_of(path: str, qrels: Judgements | None) -> Topics:
    """The queries of a file, of which only those with judgements, if some are given."""
    if qrels is None or isinstance(qrels, str | Path):
        return LocalTopics(path, qrels_path=None if qrels is None else str(qrels))
    judged = list(judgements(qrels))
    wanted = {qrel.query_id for qrel in judged}
    queries = [query for query in LocalTopics(path).queries() if query.query_id in wanted]
    if not queries:
        raise DataError(f"{path} has none of the judged queries, such as {min(wanted, default='q1')!r}; check the ids")
    return TextTopics(queries, judged)


def open_examples(source: ExampleSource) -> Examples:
    """Training examples.

    Args:
        source: examples; topics, whose relevant documents are the positives; a folder in BEIR's layout or an id of
            ir_datasets, likewise (of a folder the split "train"); texts, `(query, positive, negative, …)` or
            `{"query": …, "positive": …, "negative": …}`.

    Raises:
        DataError: if there are no such examples.
    """
    if isinstance(source, Examples):
        return source
    if isinstance(source, Documents):
        raise DataError(f"examples are {type(source).__name__}, a collection; documents follow the examples")
    if isinstance(source, str | Path):
        path = _path(source)
        if path is not None and not path.is_dir():
            raise DataError(
                f"{path} is a file; open it with irexp.dataset.examples.FileExamples(path, topics=…) if it holds ids, "
                f"with irexp.dataset.text_examples.TextFileExamples(path) if it holds texts"
            )
        return QrelExamples(open_topics(source, split="train"))
    return QrelExamples(source) if isinstance(source, Topics) else TextExamples(source)


def _path(source: str | Path) -> Path | None:
    """The folder or file that is meant; None for an id of ir_datasets.

    Raises:
        DataError: if it is neither.
    """
    path = Path(source).expanduser()
    if exists(path):
        return path
    if isinstance(source, str) and not source.startswith(("/", "~", ".")):
        nearest = nearest_id(source)
        if nearest == source:
            return None
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise DataError(f"{source!r} is not a file or folder here, nor a collection of ir_datasets{hint}")
    raise DataError(f"there is no file or folder {path}")
