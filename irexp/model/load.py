"""Open a checkpoint, recognised by its content, and save one: `encoder = load("folder or hub name")`."""

from __future__ import annotations

from pathlib import Path

from irexp.artifact.content import hub_revision
from irexp.model.bi_encoder import BiEncoder
from irexp.model.checkpoint.sentence_transformers import SETTINGS, load_dense, save_dense
from irexp.model.dense import DenseBiEncoder
from irexp.types import UserError

#: What is fetched of a hub model: configuration, tokenizer, and weights that hold no code.
_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors", "*/pytorch_model.bin"]


def load(
    checkpoint: str | Path,
    *,
    name: str | None = None,
    query_length: int | None = None,
    document_length: int | None = None,
    revision: str | None = None,
) -> BiEncoder:
    """Open a bi-encoder.

    Args:
        checkpoint: a folder of irexp or sentence-transformers, a plain transformer's, or a name on the hub.
        name: what tables call it; None for what the checkpoint says.
        query_length: tokens of a query that are read; None for what the checkpoint says.
        document_length: tokens of a document that are read, likewise.
        revision: the hub's commit; None for the one in the cache, else the newest.

    Raises:
        UserError: if there is no such checkpoint, or it is of no kind that is understood.
    """
    folder = _folder(str(checkpoint), revision)
    looked_for = (SETTINGS, "modules.json", "config.json")
    if not any((folder / file).is_file() for file in looked_for):
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} is no checkpoint: it has none of {', '.join(looked_for)}, but {there}")
    return load_dense(folder, name=name, query_length=query_length, document_length=document_length).eval()


def save(model: BiEncoder, folder: str | Path) -> None:
    """Write a checkpoint that `load` opens, and so does its home library, with equal embeddings.

    Args:
        model: a dense bi-encoder goes into the layout of sentence-transformers.
        folder: made if it is not there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    if isinstance(model, DenseBiEncoder):
        save_dense(model, Path(folder))
    else:
        raise TypeError(f"a {type(model).__name__} has no checkpoint format")


def _folder(checkpoint: str, revision: str | None) -> Path:
    """The folder of a checkpoint, fetched from the hub if it is a name there."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{folder} is a file; a checkpoint is a folder")
    if checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1:
        raise UserError(f"{folder} is not there")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(
            snapshot_download(checkpoint, revision=revision or hub_revision(checkpoint), allow_patterns=_PATTERNS)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"{checkpoint} is no folder here, is not in the hub's cache, and cannot be fetched from the hub "
            f"({str(error).splitlines()[0]})"
        ) from error
