"""The embedded default: AWS how-to questions, made at run time from files that two Apache-2.0 packages ship.

A query is the bold title of an example of the AWS command line (`awscli/examples/<service>/<operation>.rst`), such as
"create a bucket"; "To", "How to" and "Example 1:" are cut, and three words or more must be left. A document is the API
reference of an operation (`botocore/data/<service>/<latest>/service-2.json.gz`): its title is the service's full name
and the operation's words, its text the first 120 words of the documentation. An operation is relevant to the titles of
its examples; a title of more than three operations is dropped, and so is a document without a title.

Operations are split by SHA-1 of their ids. A query is a test query if one of its operations is in the test part, else
a dev query if one is in the dev part, else a training query. So no test operation is seen in training.

The packages are located but not imported, and pinned, because their content is the collection.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
import importlib.metadata
import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from irexp.config.installation import install_command
from irexp.dataset.collection import DataError, Documents, Topics
from irexp.types import Document, Qrel, Query

#: The packages whose files are the collection.
PINNED = {"awscli": "1.45.64", "botocore": "1.43.64"}

#: Services whose names differ between the command line and the API.
_API_NAME = {"configservice": "config", "deploy": "codedeploy", "s3api": "s3"}

_MOST_WORDS, _FEWEST_TITLE_WORDS, _MOST_OPERATIONS = 120, 3, 3

_TITLE = re.compile(r"\*\*(.+?)\*\*:?")
_LEAD = re.compile(r"(Example\s*\d*\s*[:.\-]?\s*)?((How to|To)\s+)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Collection:
    """The whole collection: about 5,400 short texts."""

    documents: dict[str, Document]
    queries: dict[str, dict[str, Query]]
    qrels: dict[str, list[Qrel]]


class AwsHowtoDocuments(Documents):
    """The API reference of the operations that have an example."""

    def require_packages(self) -> None:
        """Called before anything is made."""
        _require_packages()

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents in the order of their ids."""
        return iter(_collection().documents.values())

    def count(self) -> int:
        """The number of documents."""
        return len(_collection().documents)

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """Look documents up by id."""
        documents = _collection().documents
        return {doc_id: documents[doc_id] for doc_id in doc_ids if doc_id in documents}


class AwsHowtoTopics(Topics):
    """The queries and judgements of one split."""

    def __init__(self, split: Literal["train", "dev", "test"]) -> None:
        """Reads nothing yet."""
        self._split = split

    def require_packages(self) -> None:
        """Called before anything is made."""
        _require_packages()

    def queries(self) -> Iterator[Query]:
        """Stream the queries."""
        return iter(_collection().queries[self._split].values())

    def qrels(self) -> Iterator[Qrel]:
        """Stream the judgements."""
        return iter(_collection().qrels[self._split])


@functools.cache
def _collection() -> _Collection:
    examples, references = _folder("awscli") / "examples", _folder("botocore") / "data"
    operations = {
        f"{service.name}.{operation}": document
        for service in sorted(examples.iterdir())
        if service.is_dir()
        for operation, document in _operations(references / _API_NAME.get(service.name, service.name), service)
    }
    doc_ids_of: dict[str, set[str]] = defaultdict(set)
    words_of: dict[str, str] = {}
    for doc_id in operations:
        service_name, _, operation = doc_id.partition(".")
        for title in _titles(examples / service_name / f"{operation}.rst"):
            words_of.setdefault(title.lower(), title)
            doc_ids_of[title.lower()].add(doc_id)
    parts: dict[str, dict[str, Query]] = {"train": {}, "dev": {}, "test": {}}
    qrels: dict[str, list[Qrel]] = {"train": [], "dev": [], "test": []}
    documents: dict[str, Document] = {}
    for key, doc_ids in doc_ids_of.items():
        if len(doc_ids) > _MOST_OPERATIONS:
            continue
        part = min((_part(doc_id) for doc_id in doc_ids), key=["test", "dev", "train"].index)
        query = Query(hashlib.sha1(key.encode()).hexdigest()[:12], words_of[key])
        parts[part][query.query_id] = query
        for doc_id in sorted(doc_ids):
            qrels[part].append(Qrel(query.query_id, doc_id, 1))
            documents[doc_id] = Document(doc_id, operations[doc_id])
    return _Collection(dict(sorted(documents.items())), parts, qrels)


def _require_packages() -> None:
    for package in PINNED:
        _folder(package)


def _folder(package: str) -> Path:
    """The folder of a pinned package.

    Raises:
        DataError: if the package is not installed, in another version, or without its files.
    """
    fix = install_command("embedded")
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(f"dataset=aws_howto is made from files of {package}, which is not installed: {fix}") from None
    if version != PINNED[package]:
        raise DataError(f"dataset=aws_howto is made from {package} {PINNED[package]}, not {version}: {fix}")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"{package} is installed without its files: {fix} --force-reinstall")
    return Path(spec.origin).parent


def _operations(reference: Path, examples: Path) -> Iterator[tuple[str, str]]:
    """The operations of a service that have both an example and documentation, with their texts."""
    if not reference.is_dir():
        return
    latest = max(path for path in reference.iterdir() if path.is_dir())
    with gzip.open(latest / "service-2.json.gz", "rt", encoding="utf8") as file:
        service: dict[str, Any] = json.load(file)
    written = {path.stem for path in examples.glob("*.rst")}
    for name, operation in service["operations"].items():
        text = _plain(operation.get("documentation", ""))
        words = _kebab(name)
        if text and words in written:
            yield words, f"{service['metadata']['serviceFullName']}: {words.replace('-', ' ')} {text}"


def _titles(path: Path) -> Iterator[str]:
    """The titles of a file of examples."""
    for line in path.read_text(encoding="utf8").splitlines():
        if match := _TITLE.fullmatch(line.strip()):
            title = _LEAD.sub("", match.group(1).strip(), count=1).strip(" :.")
            if len(title.split()) >= _FEWEST_TITLE_WORDS:
                yield title


def _kebab(name: str) -> str:
    """`ListWebACLs` as the command line writes it: list-web-acls."""
    if match := re.search(r"[A-Z]{2,}s$", name):
        name = f"{name[: match.start()]}-{match.group().lower()}"
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1-\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name).lower()


def _plain(markup: str) -> str:
    """The first words of an operation's documentation, without tags and entities."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", markup))
    return " ".join(text.split()[:_MOST_WORDS])


def _part(doc_id: str) -> str:
    """The split of an operation, by SHA-1 of its id: one tenth test, one tenth dev."""
    return {0: "test", 1: "dev"}.get(int(hashlib.sha1(doc_id.encode()).hexdigest(), 16) % 10, "train")
