"""Sentences for a table's foot on how its runs were made: texts, lengths, and exact or approximate search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from irexp.artifact.identity import digest_in
from irexp.artifact.manifest import read_manifest
from irexp.evaluation.table import Result
from irexp.index.index import Index


def conventions(results: Mapping[Path, Result]) -> list[str]:
    """The conventions that the recorded settings of a table's runs follow, one sentence each.

    Args:
        results: the results of the table by the folder of their measures.
    """
    recorded = {folder: read_manifest(folder)["provenance"] for folder in results}
    own = {
        folder: provenance["configuration"]
        for folder, provenance in recorded.items()
        if _is_own(provenance["configuration"]["artifact"].get("run"))
    }
    labels = {folder: result.label for folder, result in results.items()}
    sentences = [
        sentence
        for title, describe in (("Documents", _texts), ("Longest query and document", _lengths), ("Search", _search))
        for sentence in _by_row(title, {folder: describe(found) for folder, found in own.items()}, labels)
    ]
    if given := sorted({labels[folder] for folder in recorded.keys() - own.keys()}):
        sentences.append(f"Runs from elsewhere: {', '.join(given)}.")
    return sentences


def _by_row(title: str, said: Mapping[Path, str | None], labels: Mapping[Path, str]) -> list[str]:
    """One sentence: what holds for all rows, or which rows each value holds for."""
    rows_of: dict[str, list[str]] = {}
    for folder, text in said.items():
        if text is not None and labels[folder] not in rows_of.setdefault(text, []):
            rows_of[text].append(labels[folder])
    if not rows_of:
        return []
    if len(rows_of) == 1:
        return [f"{title}: {next(iter(rows_of))}."]
    parts = [f"{text} ({', '.join(rows)})" for text, rows in rows_of.items()]
    return [f"{title}: {'; '.join(parts)}."]


def _is_own(run: object) -> bool:
    return run in (None, "own") or digest_in(str(run)) is not None


def _texts(configuration: Mapping[str, Any]) -> str:
    fields = (configuration["dataset"].get("documents") or {}).get("text_fields")
    return " and ".join(fields) if fields else "title and text"


def _lengths(configuration: Mapping[str, Any]) -> str | None:
    """The lengths of a model in tokens; None for one that cuts nothing."""
    model = configuration["model"]
    if "document_length" not in model:
        return None
    lengths = [model.get(key) for key in ("query_length", "document_length")]
    shown = ["the model's limit" if length is None else str(length) for length in lengths]
    return "the model's limit" if lengths == [None, None] else f"{shown[0]} and {shown[1]} tokens"


def _search(configuration: Mapping[str, Any]) -> str | None:
    """Whether the index was searched exactly; None without one."""
    index = configuration.get("index")
    if not index or configuration["re_rank"]["candidates"] is not None or configuration["fuse"]["runs"]:
        return None
    engine: type[Index] = get_class(index["_target_"])
    return "exact" if engine.is_exact(index) else "approximate"
