"""The stage that makes an index, from an encoding or, for BM25, from the texts."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents
from irexp.index.bm25 import BM25Index
from irexp.index.ids import IdList
from irexp.index.index import Index, build
from irexp.index.shards import Encoding
from irexp.index.vectors import Representation
from irexp.stage.machine import prepare
from irexp.types import UserError

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
    check_engine(index, encoded.representation)
    with tqdm(total=len(encoded), unit=" documents", desc="index", disable=not machine.progress) as progress:
        build(index, encoded, folder, progress.update)
    IdList.write(folder / IDS, encoded.ids)
    return {"documents": float(len(encoded))}


def check_engine(index: Index, representation: Representation) -> None:
    """Refuse an engine that takes other vectors than a model makes."""
    if index.takes != representation:
        raise UserError(
            f"the model makes {_WORDS[representation]} and {type(index).__name__} takes {_WORDS[index.takes]}; "
            f"index={_OPTIONS[representation]} is an exact engine for them"
        )


_WORDS: dict[Representation, str] = {
    "dense": "dense vectors",
    "sparse": "sparse vectors",
    "tokens": "vectors for each token",
}

_OPTIONS: dict[Representation, str] = {"dense": "faiss_flat", "sparse": "sparse", "tokens": "maxsim"}
