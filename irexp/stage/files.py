"""The files of a job's collections are looked for before its first step, not hours later by their stage."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from irexp.artifact.plan import Step
from irexp.artifact.values import is_given, is_trained, is_tuned, select
from irexp.config.built import built
from irexp.config.check import ConfigError
from irexp.config.target import constant
from irexp.dataset.collection import DataError, Topics
from irexp.dataset.local import LocalDocuments
from irexp.dataset.text_file import resolve
from irexp.types import Representation, UserError

#: The package of the collections whose settings `path` and `…_path` name files that are read.
_COLLECTIONS = "irexp.dataset."

#: The queries and judgements of local files, documents of one, and training examples of such judgements.
_LOCAL_TOPICS = "irexp.dataset.local.LocalTopics"
_LOCAL_DOCUMENTS = "irexp.dataset.local.LocalDocuments"
_JUDGED = "irexp.dataset.examples.QrelExamples"

#: The stages that train; those besides fit look at the losses of a few steps, without validation.
_TRAINS = ("fit", "find_lr", "overfit")

#: Formats of sparse vectors with the names of their terms.
TermFormat = Literal["anserini", "ciff", "seismic"]

Format = TermFormat | Literal["opensearch", "vespa", "milvus"]

#: The files of documents and queries, and before them that of a schema; the documents of -000 have further files.
_FILES: dict[Format, tuple[str, ...]] = {
    "anserini": ("docs.jsonl", "queries.tsv"),
    "ciff": ("index.ciff", "queries.tsv"),
    "seismic": ("docs.jsonl", "queries.jsonl"),
    "opensearch": ("mapping.json", "documents-000.ndjson", "queries.jsonl"),
    "vespa": ("irexp.sd", "documents.jsonl", "queries.jsonl"),
    "milvus": ("collection.json", "documents-000.json", "queries.jsonl"),
}


def require_files(steps: Iterable[Step]) -> None:
    """Find the files that the steps will read, and see that those which they write can be written.

    Raises:
        ConfigError: naming each setting whose file does not exist.
        UserError: if local queries or judgements cannot be read, evaluated or learnt from, if a local file has no
            documents, if a file that stage=export writes exists, if its format does not take the model's vectors, or
            if its scale is not above 0.
    """
    for step in steps:
        if step.stage is not None and step.stage.name == "export":
            settings = step.experiment.values["stage"]["export"]
            check_scale(settings["scale"])
            check_target(Path(settings["folder"]), settings["format"])
            configured = step.experiment.values["model"]
            model = str(configured.get("_target_", ""))
            made: Representation | None = constant(model, "representation") if model else None
            if made is not None and not is_given(step.experiment.values, "checkpoint"):
                matching = bool(constant(model, "matches_tokens"))
                what = f"the model {configured['name']} makes"
                check_kind(settings["format"], made, what, matches_tokens=matching)
    listed = [(step, key) for step in steps for key in _read(step)]
    if faults := [fault for step, key in listed for fault in _absent(step, key)]:
        raise ConfigError(faults)
    checked: set[str] = set()
    for step, key in listed:
        _check_documents(step, key, checked)
        _check_topics(step, key, checked)
        _check_examples(step, key, checked)


def _check_topics(step: Step, key: str, checked: set[str]) -> None:
    """Read local queries and judgements once before anything begins, and see what the measures can do with them.

    Raises:
        UserError: naming the file, and the line of a fault.
    """
    node = select(step.experiment.values, key)
    if not isinstance(node, Mapping) or node.get("_target_") != _LOCAL_TOPICS:
        return
    assert step.stage is not None
    evaluation = step.experiment.values["evaluation"]["measures"] if step.stage.name == "evaluate" else None
    if (made := repr((node, evaluation))) in checked:
        return
    checked.add(made)
    topics: Topics = built(dict(node))
    with _without_warnings():
        queries = sum(1 for _ in topics.queries())
    if not queries:
        raise UserError(f"{key}: no query of {node['queries_path']} is judged in {node.get('qrels_path')}")
    if evaluation is not None:
        from irexp.evaluation.measures import check_judgements, parse_measures

        check_judgements(topics.qrels(), parse_measures(evaluation), topics.relevance)


def _check_documents(step: Step, key: str, checked: set[str]) -> None:
    """Read the first document of a local file.

    Raises:
        DataError: if there is none, or it is malformed.
    """
    node = select(step.experiment.values, key)
    if isinstance(node, Mapping) and node.get("_target_") == _LOCAL_DOCUMENTS and repr(node) not in checked:
        checked.add(repr(node))
        documents: LocalDocuments = built(dict(node))
        documents.first_of(None)


def _check_examples(step: Step, key: str, checked: set[str]) -> None:
    """Find a training example among local judgements, and its document in the local file; reads no further.

    Raises:
        UserError: naming the files that do not go together.
    """
    node, documents = (select(step.experiment.values, name) for name in (key, "dataset.documents"))
    topics = node.get("topics") if isinstance(node, Mapping) and node.get("_target_") == _JUDGED else None
    is_local = isinstance(topics, Mapping) and topics.get("_target_") == _LOCAL_TOPICS
    if not is_local or repr((topics, documents)) in checked:
        return
    assert isinstance(topics, Mapping)
    checked.add(repr((topics, documents)))
    read: Topics = built(dict(topics))
    with _without_warnings():
        judged: dict[str, list[str]] = {}
        for qrel in read.qrels():
            if qrel.relevance > 0:
                judged.setdefault(qrel.query_id, []).append(qrel.doc_id)
        if not any(query.query_id in judged for query in read.queries()):
            raise UserError(
                f"{key}: there is no training example: no query of {topics['queries_path']} has a relevant document in "
                f"{topics.get('qrels_path')}"
            )
    if not isinstance(documents, Mapping) or documents.get("_target_") != _LOCAL_DOCUMENTS:
        return
    relevant = {doc_id for doc_ids in judged.values() for doc_id in doc_ids}
    collection: LocalDocuments = built(dict(documents))
    if collection.first_of(relevant) is None:
        raise UserError(
            f"{key}: no training example has its relevant document in the collection: none of the {len(relevant):,} "
            f"documents of {topics.get('qrels_path')}, such as {min(relevant)!r}, is in {documents['path']}"
        )


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep quiet what the stage itself warns of."""
    loggers = [logging.getLogger(f"irexp.dataset.{name}") for name in ("local", "qrels")]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in loggers:
            logger.disabled = False


def _read(step: Step) -> list[str]:
    """The parts of the configuration about collections that a step's stage reads."""
    assert step.stage is not None
    values, name = step.experiment.values, step.stage.name
    arguments = OmegaConf.to_container(step.experiment.stage_node(name), resolve=False)
    assert isinstance(arguments, dict)
    keys = {value[2:-1] for value in arguments.values() if isinstance(value, str) and value.startswith("${")}
    found = keys & {"dataset.documents", "dataset.train", "dataset.dev", "dataset.test", "validation", "search"}
    if name == "fit" and not is_trained(values):
        return []
    validates = name == "fit" and values["training"]["validate_every"] is not None
    if (name in _TRAINS and not validates) or (name == "fuse" and not is_tuned(values)):
        found -= {"dataset.dev", "validation"}
    if name == "index" and step.inputs["encoding"] is not None:
        found -= {"dataset.documents"}
    return sorted(found)


def _absent(step: Step, key: str) -> Iterator[str]:
    """What is wrong with the files below a key of the configuration."""
    for name, path in _paths(select(step.experiment.values, key), key):
        try:
            resolve(path)
        except DataError as error:
            yield f"{name}: {error}{_hint(name)}"


def _paths(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    is_collection = str(value.get("_target_", "")).startswith(_COLLECTIONS)
    for key, inner in value.items():
        is_path = is_collection and (key == "path" or key.endswith("_path"))
        if isinstance(inner, str) and (is_path or f"{name}.{key}" == "search.exclude_path"):
            yield f"{name}.{key}", inner
        yield from _paths(inner, f"{name}.{key}")


def _hint(name: str) -> str:
    """The way out for a collection without such files."""
    if name.startswith("dataset.train"):
        return "; without training queries use training=none"
    if name.startswith("dataset.dev"):
        return "; without development queries set training.validate_every=null"
    return ""


def check_kind(format: Format, made: Representation, what: str, *, matches_tokens: bool) -> None:
    """Refuse vectors that an export does not hold.

    Args:
        format: the export's.
        made: the kind of vectors.
        what: what has them, with its verb.
        matches_tokens: whether vectors of tokens are compared only with those of the same token.

    Raises:
        UserError: saying which formats take them.
    """
    if matches_tokens:
        raise UserError(
            f"stage.export.format={format}: {what} vectors of tokens that are compared only with those of the same "
            f"token, which no other engine does; leave out stage=export, index=coil searches them"
        )
    if format not in ("opensearch", "vespa", "milvus") and made != "sparse":
        raise UserError(
            f"stage.export.format={format} writes sparse vectors, but {what} {made} ones; opensearch, vespa and milvus "
            f"take these"
        )


def check_scale(scale: float) -> None:
    """Refuse a scale of impacts that would leave no term in an index.

    Raises:
        UserError: saying what is usual.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(
            f"stage.export.scale={scale:g} must be a number above 0, usually 100: weights times it are impacts"
        )


def check_target(folder: Path, format: Format) -> tuple[Path, ...]:
    """The files that an export writes: that of a schema if there is one, of documents, and of queries.

    Raises:
        UserError: if one of them exists, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"stage.export.folder={folder} is not a folder; name another one")
    found = tuple(folder / name for name in _FILES[format])
    further = [path for name in _FILES[format] if "-000" in name for path in folder.glob(name.replace("000", "*"))]
    if existing := sorted({path.name for path in (*found, *further) if path.exists()}):
        raise UserError(
            f"stage.export.folder={folder} has {' and '.join(existing)} already; name another folder, or remove "
            f"{'them' if len(existing) > 1 else 'it'}"
        )
    return found
