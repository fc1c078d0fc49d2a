"""Google's XTR: a T5 encoder, and its projection in 2_Dense, a Dense of sentence-transformers without config.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import Content, Wanted, fill, read_tensors
from irexp.model.projection import Projection

if TYPE_CHECKING:
    from irexp.model.xtr import XTR


def recognises(content: Content) -> bool:
    """Whether there is the projection's folder, and no list of modules."""
    return not content.is_listed and (content.folder / "2_Dense").is_dir()


def load(family: type[XTR], folder: Path, wanted: Wanted) -> XTR:
    """Load a folder of Google's XTR."""
    state = {name.removeprefix("linear."): value for name, value in read_tensors(folder / "2_Dense").items()}
    model = family(
        HuggingFaceBackbone(str(folder), trust_remote_code=wanted.trust_remote_code),
        dim=len(state["weight"]),
        **wanted.name_and_lengths(folder, {"query_length": 32, "document_length": 512}),
    )
    (projection,) = model.projections
    assert isinstance(projection, Projection)
    fill(projection.linear, state, folder / "2_Dense")
    return model
