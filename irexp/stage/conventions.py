"""Sentences for a table's foot on how its runs were made: texts, lengths, and exact or approximate search.

They follow what was recorded of each run when it was made, and of the artifacts that it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_class

from irexp.artifact.identity import digest_in
from irexp.artifact.lineage import Lineage
from irexp.artifact.manifest import read_manifest
from irexp.evaluation.table import Result

if TYPE_CHECKING:
    from irexp.index.index import Index


def conventions(results: Mapping[Path, Result], lineage: Lineage) -> list[str]:
    """The conventions that the recorded settings of a table's runs follow, one sentence each.

    Args:
        results: the results of the table by the folder of their measures.
        lineage: of the store that holds them.
    """
    recorded = {folder: _of_run(read_manifest(folder)["provenance"], lineage) for folder in results}
    own = {folder: found for folder, found in recorded.items() if found is not None}
    sentences = [
        sentence
        for title, said in (
            ("Documents", {folder: _texts(found["configuration"]) for folder, found in own.items()}),
            ("Longest query and document", {folder: _lengths(found, lineage) for folder, found in own.items()}),
            ("Search", {folder: _search(found, lineage) for folder, found in own.items()}),
        )
        for sentence in _by_row(title, said, results)
    ]
    if given := sorted({results[folder].label for folder in recorded.keys() - own.keys()}):
        sentences.append(f"Runs from elsewhere: {', '.join(given)}.")
    return sentences


def _of_run(measures: Mapping[str, Any], lineage: Lineage) -> Mapping[str, Any] | None:
    """The provenance of the run that was measured, or if it is gone that of its measures; None if it is not irexp's."""
    run = measures["configuration"]["artifact"].get("run")
    if run in lineage.manifests:
        provenance: Mapping[str, Any] = lineage.manifests[run]["provenance"]
        return provenance
    return measures if run in (None, "own") or digest_in(str(run)) is not None else None


def _by_row(title: str, said: Mapping[Path, str | None], results: Mapping[Path, Result]) -> list[str]:
    """One sentence: what holds for all rows, or which rows each value holds for, and if they differ which columns."""
    columns_of: dict[str, dict[str, list[str]]] = {}
    for folder, text in said.items():
        if text is not None:
            columns_of.setdefault(text, {}).setdefault(results[folder].label, []).append(results[folder].column)
    if len(columns_of) <= 1:
        return [f"{title}: {text}." for text in columns_of]
    labels = [label for found in columns_of.values() for label in found]
    parts = []
    for text, found in columns_of.items():
        rows = [
            label if labels.count(label) == 1 else f"{label} on {' and '.join(dict.fromkeys(columns))}"
            for label, columns in found.items()
        ]
        parts.append(f"{text} ({', '.join(rows)})")
    return [f"{title}: {'; '.join(parts)}."]


def _texts(configuration: Mapping[str, Any]) -> str:
    fields = (configuration["dataset"].get("documents") or {}).get("text_fields")
    return " and ".join(fields) if fields else "title and text"


def _lengths(provenance: Mapping[str, Any], lineage: Lineage) -> str | None:
    """The lengths that a run's model used, in tokens; None for one that cuts nothing, and for a fusion.

    Where a run or an encoding was made before its lengths were recorded, those of the configuration, if it sets them.
    """
    configuration = provenance["configuration"]
    model, encoding = configuration["model"], configuration["artifact"].get("encoding")
    if "document_length" not in model or configuration["fuse"]["runs"]:
        return None
    encoded = lineage.manifests[encoding]["provenance"] if encoding in lineage.manifests else {}
    used = {**(encoded.get("measures") or {}), **(provenance.get("measures") or {})}
    query, document = (used.get(key, model.get(key)) for key in ("query_length", "document_length"))
    if query is None and document is None:
        return "those of the checkpoint"
    if query is None or document is None:
        known = [
            f"{length:.0f} tokens" if length is not None else "that of the checkpoint" for length in (query, document)
        ]
        return " and ".join(known)
    return f"{query:.0f} and {document:.0f} tokens"


def _search(provenance: Mapping[str, Any], lineage: Lineage) -> str:
    """Whether the index was searched exactly; of a re-ranked or fused run, what it was made from."""
    if _is_searched(provenance["configuration"]):
        return "exact" if _is_exact(provenance) else "approximate"
    return _made(provenance, lineage)


def _made(provenance: Mapping[str, Any], lineage: Lineage) -> str:
    """How a run was made, down to its first stages."""
    configuration = provenance["configuration"]
    artifact = configuration["artifact"]
    if configuration["fuse"]["runs"]:
        names = artifact.get("fused") or []
        return f"a fusion of {' and '.join(dict.fromkeys(_named(name, lineage) for name in names))}"
    if _is_searched(configuration):
        return "an exact search" if _is_exact(provenance) else "an approximate search"
    is_shipped = isinstance(configuration["re_rank"]["candidates"], Mapping)
    first = "the candidates that the collection ships" if is_shipped else _named(artifact.get("candidates"), lineage)
    return f"the best {configuration['re_rank']['depth']} of {first}, re-ranked"


def _named(name: str | None, lineage: Lineage) -> str:
    """How another run was made; of one that is not in the store that is not known."""
    if name not in lineage.manifests:
        return "another run"
    return _made(lineage.manifests[name]["provenance"], lineage)


def _is_searched(configuration: Mapping[str, Any]) -> bool:
    return configuration["re_rank"]["candidates"] is None and not configuration["fuse"]["runs"]


def _is_exact(provenance: Mapping[str, Any]) -> bool:
    """What was recorded of a search; where nothing was, the engine is asked, which imports torch."""
    recorded = provenance.get("is_exact")
    return recorded if isinstance(recorded, bool) else is_exact(provenance["configuration"]["index"])


def is_exact(settings: Mapping[str, Any]) -> bool:
    """Whether an engine with these settings, as in conf/index, finds the documents of the highest scores."""
    engine: type[Index] = get_class(settings["_target_"])
    return engine.is_exact(settings)
