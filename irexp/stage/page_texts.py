"""The texts of a report's page: the best documents of runs, and queries, documents and judgements by id.

What cannot be read is left out of the page, which says so, and so does the log: a table is worth more than its texts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irexp.artifact.content import content_digest, exists
from irexp.artifact.experiment import composed
from irexp.artifact.identity import Identity
from irexp.artifact.lineage import Lineage, documents_of
from irexp.artifact.manifest import check
from irexp.artifact.plan import draft_plan
from irexp.config.built import built
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.measures import relevance_by_query
from irexp.evaluation.run_file import read_run, run_file, run_heads
from irexp.stage.pivot import Pivoted
from irexp.stage.show import content_overrides
from irexp.types import Qrel, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heads:
    """The best documents of some queries of a run; None, and why, if it could not be read."""

    documents: Mapping[str, Sequence[str]] | None
    fault: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts by id, judgements by query and document, and why some are missing."""

    queries: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    relevance: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fault: str | None = None


def read_heads_of(one: Pivoted, lineage: Lineage, query_ids: Collection[str], depth: int) -> Heads:
    """The `depth` best documents of some queries, as they were measured."""
    name = f"measures/{one.folder.name}"
    try:
        lines = (line for line in read_run(_run(name, lineage)) if line.query_id in query_ids)
        found = run_heads(lines, depth + 1)
    except (UserError, OSError) as error:
        return Heads(None, _missing(f"the run of {one.result.label}", error))
    is_removed = bool(one.result.measured.remove_query)
    return Heads({q: [d for d in ids if d != q or not is_removed][:depth] for q, ids in found.items()})


def read_texts(names: Sequence[str], lineage: Lineage, query_ids: Collection[str], doc_ids: Collection[str]) -> Texts:
    """The texts and judgements of some queries and documents of a collection.

    The collection is composed again from recorded overrides, and read only if it is still the one that was used.
    Documents that no artifact of the store was made from are not read, since they might have to be downloaded.

    Args:
        names: measures on the collection.
        lineage: of their store.
        query_ids: the queries.
        doc_ids: the documents.
    """
    name = next((name for name in names if lineage.documents(name)), names[0])
    try:
        topics, documents = _collection(name, lineage)
        relevance = relevance_by_query(Qrel(*qrel) for qrel in topics.qrels() if qrel.query_id in query_ids)
        queries = {query.query_id: query.text for query in topics.queries() if query.query_id in query_ids}
        log.info("report: reading %d documents of %s", len(doc_ids) if documents else 0, name)
        texts = {key: found.text for key, found in documents.get_many(sorted(doc_ids)).items()} if documents else {}
    except (UserError, OSError) as error:
        return Texts(fault=_missing("the texts", error))
    fault = None if documents else "The documents of runs from elsewhere are not read."
    return Texts(queries, texts, relevance, fault)


def _run(measures: str, lineage: Lineage) -> Path:
    """The file of the run that measures were computed from.

    Raises:
        UserError: if it is not here, or was changed.
    """
    ((_, name, entry),) = [found for found in lineage.inputs(measures) if found[0] == "run"]
    if name is not None:
        folder = lineage.folders[name]
        check(folder, lineage.manifests[name], made_from=None, digest=None, up_to=math.inf)
        return run_file(folder)
    given = Path(str(lineage.manifests[measures]["provenance"]["configuration"]["artifact"]["run"]))
    if not exists(given) or entry.get("content") != content_digest(given):
        raise UserError(f"{given} is not here, or was changed since it was measured")
    return run_file(given)


def _collection(name: str, lineage: Lineage) -> tuple[Topics, Documents | None]:
    """The queries that measures are over; and the documents, if an artifact of the store was made from them.

    Raises:
        UserError: if the recorded overrides lead to another collection today.
    """
    manifest = lineage.manifests[name]
    experiment = composed(content_overrides(manifest))
    plan, faults = draft_plan(experiment, ["evaluate"])
    if faults:
        raise UserError("; ".join(faults))
    artifact = plan.own[0].artifact
    assert isinstance(artifact, Identity)
    used = lineage.documents(name)
    if (
        artifact.made_from["dataset.test"] != manifest["made_from"]["dataset.test"]
        or documents_of(artifact.lineage) != used
    ):
        raise UserError("its queries, judgements or documents have changed since it was measured")
    dataset = experiment.config.dataset
    return built(dataset.test), built(dataset.documents) if used else None


def _missing(what: str, error: Exception) -> str:
    """The sentence on what is missing, which is logged, too."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    log.warning("report: %s cannot be shown: %s", what, reason)
    return f"{what[:1].upper()}{what[1:]} cannot be shown: {reason}"
