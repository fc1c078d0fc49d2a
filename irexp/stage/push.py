"""The stage that publishes a checkpoint on the Hugging Face hub, with a card that lists its measures."""

from __future__ import annotations

import logging
from pathlib import Path

from irexp.stage.card import card_of
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Files that are not uploaded: the manifest names this machine's commands and hardware; a new card is made.
_NOT_PUBLISHED = {"manifest.json", "README.md"}


def push(output: Path, checkpoint: Path | str, measures: Path | None, *, repository: str, private: bool = True) -> str:
    """Upload a checkpoint in one commit with its card; create the repository if it does not exist.

    Args:
        output: the job's folder; nothing is written there.
        checkpoint: its folder.
        measures: the folder of its measures, if any.
        repository: `owner/name` on the hub.
        private: whether a new repository is visible to its owner alone.

    Returns:
        The commit's URL.

    Raises:
        UserError: if the hub cannot be reached, or refuses.
    """
    if not isinstance(checkpoint, Path):
        raise UserError(f"{checkpoint} is a model on the hub already; name a checkpoint of stage=fit to publish")
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in published(checkpoint).items()
    ]
    operations.append(
        CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card_of(checkpoint, repository, measures).encode())
    )
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(repository, operations, commit_message=f"irexp: {checkpoint.name}")
    except (_transport_error(HfHubHTTPError), HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"{repository} could not be written to the hub ({str(error).strip().splitlines()[0]}); check the "
            f"network, log in by `hf auth login` or HF_TOKEN, and set stage.push.repository=owner/name"
        ) from error
    log.info("push: %s", commit.commit_url)
    return str(commit.commit_url)


def _transport_error(error: type[Exception]) -> type[Exception]:
    """The base class of the hub client's HTTP errors, which a failed connection raises, too.

    It belongs to httpx or to another library, depending on the client's version.
    """
    bases = [base for base in error.__mro__ if base.__name__ == "HTTPError"]
    return bases[0] if bases else error


def published(checkpoint: Path) -> dict[str, Path]:
    """The files of a checkpoint that are uploaded, by their paths in the repository."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    relative = {path.relative_to(checkpoint).as_posix(): path for path in files}
    return {
        name: path
        for name, path in relative.items()
        if name not in _NOT_PUBLISHED and not any(part.startswith(".") for part in Path(name).parts)
    }
