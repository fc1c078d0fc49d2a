"""Models of the Hugging Face hub: what is in its cache, and fetching what is not."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from irexp.artifact.content import exists, hub_revision, is_hub_name
from irexp.artifact.resource import Resource
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Files fetched from the hub: configuration, tokenizer and weights, but no code.
_PATTERNS = (
    *("*.json", "*.txt", "*.jinja", "*.safetensors", "artifact.metadata", "model.pt", "*/pytorch_model.bin"),
    *("*.model", "*.spm", "*.vocab", "*.tiktoken", "bpe.codes"),
)

#: Files of weights; one of several parts has "-of-" in its name, and an index lists them.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model.pt")


def fetch_model(name: str, revision: str | None = None, *, with_code: bool = False) -> Path:
    """The folder of a model in the hub's cache, after fetching what is missing there.

    Args:
        name: on the hub.
        revision: a commit, branch or tag; None for the cached commit, else the newest.
        with_code: whether to fetch its Python code, too.

    Raises:
        UserError: if the hub has no such model, cannot be reached, or refuses.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    fetch = partial(snapshot_download, name, revision=revision or hub_revision(name))
    patterns = [*_PATTERNS, "*.py"] if with_code else list(_PATTERNS)
    try:
        folder = Path(fetch(allow_patterns=patterns))
        if not any(folder.rglob("*.safetensors")):
            folder = Path(fetch(allow_patterns=[*patterns, "*.bin"]))
        return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"{name} is not a local folder, is not in the hub's cache, and cannot be fetched from the hub "
            f"({str(error).splitlines()[0]})"
        ) from error


def cached_model(name: str, revision: str | None = None) -> Path | None:
    """The folder of a model in the hub's cache; None if it is not there, or lacks weights.

    Args:
        name: on the hub.
        revision: a commit, branch or tag; None for the cached commit.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision or hub_revision(name), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    """Whether the folder of a model, or that of its first module, has a file of weights, or all files of an index."""
    for place in (folder, *folder.glob("*0_*")):
        files = [path for pattern in _WEIGHTS for path in place.glob(pattern)]
        if any("-of-" not in path.name for path in files):
            return True
        for index in place.glob("*.index.json"):
            named = json.loads(index.read_text(encoding="utf8"))["weight_map"].values()
            if all((place / name).is_file() for name in named):
                return True
    return False


@dataclass(frozen=True)
class HubModel(Resource):
    """A model of the hub: weights, tokenizer and configuration.

    Attributes:
        repository: its name on the hub.
        revision: a commit, branch or tag; None for the cached commit, else the newest.
        with_code: whether its Python code is needed.
    """

    repository: str
    revision: str | None = None
    with_code: bool = False

    @property
    def name(self) -> str:
        """The name on the hub, with the revision if there is one."""
        return f"{self.repository} of the hub" + (f", revision {self.revision}" if self.revision else "")

    def is_commit_known(self) -> bool:
        """Whether its commit is known, which is part of the names of all that is made from it."""
        return bool(self.revision or hub_revision(self.repository))

    def is_here(self) -> bool:
        """Whether all its weights are in the hub's cache, and those of the model that it adapts."""
        folder = cached_model(self.repository, self.revision)
        return folder is not None and all(base.is_here() for base in _adapted(folder))

    def bytes_here(self) -> int | None:
        """The bytes of its files in the hub's cache."""
        folder = cached_model(self.repository, self.revision)
        return None if folder is None else sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def fetch(self) -> None:
        """Fetch it, and the model that it adapts, into the hub's cache, which HF_HOME and HF_HUB_CACHE move.

        Raises:
            UserError: if the hub has no such model, cannot be reached, or refuses; or the repository has no weights.
        """
        folder = fetch_model(self.repository, self.revision, with_code=self.with_code)
        if not _has_weights(folder):
            raise UserError(
                f"{self.repository}: the hub's cache lacks its weights, and the hub cannot be asked for them"
            )
        for base in _adapted(folder):
            base.fetch()


def _adapted(folder: Path) -> list[HubModel]:
    """The model of the hub that the adapters in a folder belong to, if it holds adapters."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return []
    name = json.loads(path.read_text(encoding="utf8")).get("base_model_name_or_path")
    return [HubModel(name)] if is_hub_name(name) and not exists(Path(name).expanduser()) else []
