"""The resolvers of the configuration; registered when `run.py` is imported, so that `--cfg job --resolve` works."""

from pathlib import Path

from omegaconf import OmegaConf


def register_resolvers() -> None:
    """Register `${folder_name:path}`."""
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)


def _folder_name(path: str | None) -> str:
    """The last part of a path; "local" if there is no path."""
    return Path(path).expanduser().resolve().name if path else "local"
