"""The resolvers of the configuration; registered when `run.py` is imported, so that `--cfg job --resolve` works."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from irexp.artifact.identity import identify


def register_resolvers() -> None:
    """Register `${artifact:kind}`, `${artifact_of:experiment,kind}` and `${folder_name:path}`."""
    OmegaConf.register_new_resolver("artifact", _artifact, replace=True)
    OmegaConf.register_new_resolver("artifact_of", _artifact_of, replace=True)
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)


def _artifact(kind: str, *, _root_: DictConfig) -> str:
    """The identifier of the artifact that this configuration makes."""
    return identify(_root_, kind).name


def _artifact_of(experiment: str, kind: str) -> str:
    """The identifier of what another experiment makes, such as the run that is re-ranked."""
    from hydra import compose

    return str(compose(config_name="config", overrides=[f"experiment={experiment}"]).artifact[kind])


def _folder_name(path: str | None) -> str:
    """The last part of a path; "local" while there is none."""
    return Path(path).expanduser().resolve().name if path else "local"
