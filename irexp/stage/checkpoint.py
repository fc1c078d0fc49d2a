"""The checkpoint of a stage, opened as the configuration says."""

from __future__ import annotations

from functools import partial

from irexp.model.bi_encoder import BiEncoder
from irexp.model.load import load
from irexp.model.model import Model
from irexp.types import UserError


def open_model(checkpoint: str, model: partial[Model]) -> Model:
    """Open a checkpoint as a model, with the text lengths of the configuration.

    The checkpoint decides its own architecture; of `model` only the lengths and the name are used.
    """
    settings = model.keywords
    return load(
        checkpoint,
        name=settings["name"],
        query_length=settings["query_length"],
        document_length=settings["document_length"],
        like=model,
    )


def open_encoder(checkpoint: str, model: partial[Model]) -> BiEncoder:
    """Open a checkpoint as a bi-encoder, with the text lengths of the configuration."""
    encoder = open_model(checkpoint, model)
    if not isinstance(encoder, BiEncoder):
        raise UserError(
            f"{checkpoint} is a cross-encoder, which makes no embeddings to index; re-rank with it: re_rank=bm25 "
            f"stage=[re_rank,evaluate]"
        )
    return encoder
