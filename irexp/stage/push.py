"""The stage that publishes a checkpoint on the Hugging Face hub, with a card that holds what it measured."""

from __future__ import annotations

import logging
from pathlib import Path

from irexp.stage.card import card_of
from irexp.types import UserError

log = logging.getLogger(__name__)

#: What of an artifact's folder stays here: commands and hardware of the machine that made it; the card replaces it.
_NOT_PUBLISHED = {"manifest.json", "README.md"}


def push(output: Path, checkpoint: Path | str, measures: Path | None, *, repository: str, private: bool = True) -> str:
    """Upload a checkpoint in one commit with its card, making the repository if it is not there.

    Args:
        output: the job's folder, in which nothing is written.
        checkpoint: the folder.
        measures: what was measured of it, if anything was.
        repository: `owner/name` on the hub.
        private: whether a new repository is visible to its owner alone.

    Returns:
        The commit's address.

    Raises:
        UserError: if the hub cannot be reached, or refuses.
    """
    if not isinstance(checkpoint, Path):
        raise UserError(f"{checkpoint} is a model of the hub, and no checkpoint of this machine to publish")
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
            f"{repository} could not be written on the hub ({str(error).strip().splitlines()[0]}); log in by "
            f"`hf auth login` or HF_TOKEN, with a network, and name stage.push.repository as owner/name"
        ) from error
    log.info("push: %s", commit.commit_url)
    return str(commit.commit_url)


def _transport_error(error: type[Exception]) -> type[Exception]:
    """What the hub's client raises where there is no connection, too: the base of its error about an answer.

    It is of httpx or of another library, by the client's version.
    """
    bases = [base for base in error.__mro__ if base.__name__ == "HTTPError"]
    return bases[0] if bases else error


def published(checkpoint: Path) -> dict[str, Path]:
    """The files of a checkpoint that are uploaded, by their names there."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    relative = {path.relative_to(checkpoint).as_posix(): path for path in files}
    return {
        name: path
        for name, path in relative.items()
        if name not in _NOT_PUBLISHED and not any(part.startswith(".") for part in Path(name).parts)
    }
