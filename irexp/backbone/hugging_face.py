"""Backbones from a folder or from the Hugging Face hub."""

from pathlib import Path
from typing import Literal

from irexp.artifact.content import exists, hub_revision, is_hub_name
from irexp.artifact.hub import HubModel
from irexp.artifact.resource import Resource
from irexp.backbone.backbone import Backbone


class HuggingFaceBackbone(Backbone):
    """Any model that transformers can load."""

    def __init__(
        self,
        name_or_path: str,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        """Reads nothing yet.

        Args:
            name_or_path: a folder, or a name on the hub.
            revision: a commit, branch or tag on the hub; None for the cached commit, or the newest if none is cached.
            trust_remote_code: whether to run the Python code in the model's repository.
            attn_implementation: eager, sdpa or flash_attention_2; None for transformers' choice.
            dtype: of the weights; full training needs float32, training with adapters does not.
        """
        self.name_or_path = name_or_path
        self.revision = revision
        self.trust_remote_code = trust_remote_code
        self.attn_implementation = attn_implementation
        self.dtype = dtype

    def location(self) -> tuple[str, str | None]:
        """The folder, or the hub name with the commit that is part of the artifacts' identities."""
        folder = Path(self.name_or_path).expanduser()
        if exists(folder):
            return str(folder), None
        return self.name_or_path, self.revision or hub_revision(self.name_or_path)

    def resources(self) -> list[Resource]:
        """The model of the hub, unless it is a folder."""
        name, _ = self.location()
        if exists(Path(name)) or not is_hub_name(name):
            return []
        return [HubModel(name, self.revision, self.trust_remote_code)]
