"""The stage that makes an encoding; a killed one resumes after its last complete shard."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from irexp.config.schema import Encoding, Machine
from irexp.dataset.collection import Documents
from irexp.index.index import Index
from irexp.model.bi_encoder import BiEncoder
from irexp.model.model import Model
from irexp.pipeline.encode import write_encoding
from irexp.pipeline.index import check_engine
from irexp.stage.checkpoint import open_encoder


def encode(
    folder: Path,
    checkpoint: str,
    *,
    model: partial[Model],
    index: Index,
    documents: Documents,
    encoding: Encoding,
    machine: Machine,
) -> dict[str, float]:
    """Encode a collection into `folder`.

    The engine that will search the vectors is checked before the hours of encoding, not after.

    Returns:
        The number of documents, and the length in tokens to which they were cut.
    """
    encoder: BiEncoder = open_encoder(checkpoint, model)
    check_engine(index, encoder.representation)
    index.check(documents.count(), encoder.embedding_dim)
    encoded = write_encoding(encoder, documents, folder, settings=encoding, machine=machine)
    return {"documents": float(encoded), "document_length": float(encoder.document_length)} if encoded else {}
