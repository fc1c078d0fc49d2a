"""The resolvers of the configuration; registered before Hydra starts, so that `--cfg job --resolve` works."""

from pathlib import Path

from omegaconf import OmegaConf

from irexp.config.installation import program


def register_resolvers() -> None:
    """Register `${folder_name:path}`, and `${program:}`, which is what starts irexp in a shell."""
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    OmegaConf.register_new_resolver("program", program, replace=True)


def _folder_name(path: str | None) -> str:
    """The last part of a path; "local" if there is no path."""
    return Path(path).expanduser().resolve().name if path else "local"
