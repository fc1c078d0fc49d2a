"""The resolvers of the configuration; registered when `run.py` is imported, so that `--cfg job --resolve` works."""

from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from irexp.artifact.candidates import Section, candidates_of, fused_runs
from irexp.artifact.identity import identify


def register_resolvers() -> None:
    """Register `${artifact:kind}`, `${candidates:section}`, `${fused:queries}` and `${folder_name:path}`."""
    OmegaConf.register_new_resolver("artifact", _artifact, replace=True)
    OmegaConf.register_new_resolver("candidates", _candidates, replace=True)
    OmegaConf.register_new_resolver("fused", _fused, replace=True)
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)


def _artifact(kind: str, *, _root_: DictConfig) -> str:
    """The identifier of the artifact that this configuration makes."""
    return identify(_root_, kind).name


def _candidates(section: Section, *, _root_: DictConfig) -> str | None:
    """The run of another experiment that a section names."""
    return candidates_of(_root_, section)


def _fused(queries: Literal["test", "dev"], *, _root_: DictConfig) -> list[str] | None:
    """The runs that are fused, on the test or the development queries."""
    return fused_runs(_root_, dev=queries == "dev")


def _folder_name(path: str | None) -> str:
    """The last part of a path; "local" while there is none."""
    return Path(path).expanduser().resolve().name if path else "local"
