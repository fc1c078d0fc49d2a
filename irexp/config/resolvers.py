"""The resolvers of the configuration; registered before Hydra starts, so that `--cfg job --resolve` works.

`${oc.env:NAME}` is OmegaConf's, except while `unresolved_environment` reads the configuration for what is recorded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from irexp.config.installation import program

#: Whether `${oc.env:NAME}` stays as it is written.
_is_hidden = ContextVar("_is_hidden", default=False)


def register_resolvers() -> None:
    """Register `${folder_name:path}`, `${program:}`, the command that starts irexp, and `${oc.env:NAME}`."""
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    OmegaConf.register_new_resolver("program", program, replace=True)
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)


def unresolved_environment(config: DictConfig, values: dict[str, Any]) -> dict[str, Any]:
    """The resolved configuration, but with `${oc.env:NAME}` as written where it is a text, which may be a secret.

    Args:
        config: the configuration.
        values: the same, resolved; returned if nothing is taken from the environment.
    """
    if "oc.env:" not in repr(OmegaConf.to_container(config, resolve=False)):  # in a tenth of the time of its YAML
        return values
    with _hidden():
        found = _recorded(config, values)
    assert isinstance(found, dict)
    return found


@contextmanager
def _hidden() -> Iterator[None]:
    token = _is_hidden.set(True)
    try:
        yield
    finally:
        _is_hidden.reset(token)


def _recorded(node: DictConfig | ListConfig, values: Any) -> Any:
    """The plain form of a node whose resolved plain form is `values`."""
    if isinstance(node, DictConfig):
        return {key: _recorded_item(node, key, value) for key, value in values.items()}
    return [_recorded_item(node, key, value) for key, value in enumerate(values)]


def _recorded_item(node: DictConfig | ListConfig, key: Any, value: Any) -> Any:
    if OmegaConf.is_missing(node, key) or isinstance(value, bool | int | float):  # not a secret
        return value
    try:
        found = node[key]
    except OmegaConfBaseException:  # a choice, in whose place the text does not fit
        written: Any = OmegaConf.to_container(node, resolve=False)
        return written[key]
    if isinstance(found, DictConfig | ListConfig):
        return _recorded(found, value)
    return found if isinstance(found, str) and "${" in found else value


def _environment(*arguments: Any) -> Any:
    """`${oc.env:NAME}` and `${oc.env:NAME,default}`."""
    return _as_written(arguments) if _is_hidden.get() else oc.env(*arguments)


def _as_written(arguments: Sequence[Any]) -> str:
    return f"${{oc.env:{','.join('null' if part is None else str(part) for part in arguments)}}}"


def _folder_name(path: str | None) -> str:
    """The last part of a path; "local" if there is no path."""
    return Path(path).expanduser().resolve().name if path else "local"
