"""The stage that makes an index, from an encoding or, for BM25, from the texts."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents
from irexp.index.bm25 import BM25Index
from irexp.index.ids import IdList
from irexp.index.index import Index
from irexp.index.shards import Encoding
from irexp.stage.machine import prepare

#: The prefix of the files that hold the document ids of an index, in the order of its rows.
IDS = "ids"


def index(
    folder: Path,
    encoding: Path | None,
    *,
    index: Index | BM25Index,
    documents: Documents,
    machine: Machine,
) -> dict[str, float]:
    """Build an index in `folder`.

    Returns:
        The number of documents.
    """
    prepare(machine)
    if isinstance(index, BM25Index):
        index.build(documents, count=documents.count())
        index.save(folder)
        return {"documents": float(len(index))}
    assert encoding is not None, "an index of vectors is made from an encoding"
    encoded = Encoding(encoding)
    with tqdm(total=len(encoded), unit=" documents", desc="index", disable=not machine.progress) as progress:
        for vector_NH in encoded.batches():
            index.add(vector_NH)
            progress.update(len(vector_NH))
    index.save(folder)
    IdList.write(folder / IDS, encoded.ids)
    return {"documents": float(len(index))}
