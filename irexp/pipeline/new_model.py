"""An untrained model of an option of conf/model: `new_model("colbert", backbone="answerdotai/ModernBERT-base")`."""

from __future__ import annotations

from typing import Any

import torch

from irexp.backbone.backbone import Backbone
from irexp.config.installation import CONF
from irexp.model.model import Model
from irexp.model.start import start_new
from irexp.pipeline.component import component, composed_option
from irexp.types import UserError


def new_model(
    option: str = "sbert", *, backbone: str | Backbone | None = None, seed: int = 42, **settings: Any
) -> Model:
    """Build a model before fine-tuning: `new_model("colbert", backbone="answerdotai/ModernBERT-base", dim=96)`.

    Args:
        option: a file of conf/model: sbert, splade, colbert, mono, …
        backbone: an option of conf/backbone, a folder, a name on the Hugging Face hub, or an object; None for the
            default.
        seed: decides the weights that the backbone lacks, such as a projection.
        settings: values that replace the file's.

    Raises:
        UserError: if there is no such option, setting or backbone, or the option has no weights (bm25).
    """
    config = composed_option("model", option)
    if "_target_" not in config.model:
        raise UserError(f"model={option} has no weights to load or train; for BM25 call build_index(documents)")
    if isinstance(backbone, str):
        is_option = (CONF / "backbone" / f"{backbone}.yaml").is_file()
        chosen = backbone if is_option else "hugging_face"
        backbone = component("backbone", chosen, **({} if is_option else {"name_or_path": backbone}))
    given = {} if backbone is None else {"backbone": backbone}
    if backbone is not None and config.model.get("query_backbone") is not None:
        given["query_backbone"] = backbone
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = start_new(component("model", option, **(given | settings)))
    return model.eval()
