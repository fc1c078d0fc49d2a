"""Backbones by folder or by name on the Hugging Face hub."""

from pathlib import Path
from typing import Literal

from irexp.artifact.content import hub_revision
from irexp.backbone.backbone import Backbone


class HuggingFaceBackbone(Backbone):
    """Any model that `transformers` opens."""

    def __init__(
        self,
        name_or_path: str,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        """A description; nothing is read.

        Args:
            name_or_path: a folder, or a name on the hub.
            revision: a commit, branch or tag of the hub; None for the commit that is in the cache, else the newest.
            trust_remote_code: whether to run Python code that comes with the model.
            attn_implementation: eager, sdpa or flash_attention_2; None for transformers' choice.
            dtype: of the weights; what is trained in full needs float32, what only carries adapters does not.
        """
        self.name_or_path = name_or_path
        self.revision = revision
        self.trust_remote_code = trust_remote_code
        self.attn_implementation = attn_implementation
        self.dtype = dtype

    def location(self) -> tuple[str, str | None]:
        """The folder, or the hub name with the commit that identities were taken of."""
        folder = Path(self.name_or_path).expanduser()
        if folder.exists():
            return str(folder), None
        return self.name_or_path, self.revision or hub_revision(self.name_or_path)
