"""The stage that makes an index from an encoding, or from texts for an engine that indexes texts."""

from __future__ import annotations

from pathlib import Path

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents
from irexp.index.index import Index
from irexp.index.shards import EncodedDocuments
from irexp.index.texts import Texts
from irexp.pipeline.index import write_index


def index(
    folder: Path,
    encoding: Path | None,
    *,
    index: Index,
    documents: Documents,
    machine: Machine,
) -> dict[str, float]:
    """Build an index in `folder`.

    Returns:
        The number of documents.
    """
    source = Texts(documents) if encoding is None else EncodedDocuments(encoding)
    total = documents.count() if isinstance(source, Texts) else len(source)
    built = write_index(index, source, folder, machine=machine, total=total)
    return {"documents": float(built)} if built else {}
