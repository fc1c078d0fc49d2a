"""What Hydra and OmegaConf would do again for each configuration that is composed, and each value that is resolved.

A command composes its configuration three times, and a plan dozens from the same files. The functions that replace
Hydra's and OmegaConf's return the same.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser import overrides_parser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, base
from omegaconf.grammar_parser import parse

#: The option files that were read, by path and time of change; pickled, which is copied fastest.
_READ: dict[tuple[str, int], bytes] = {}

_interpolation_map = defaults_list._create_interpolation_map
_functions = functools.cache(overrides_parser.create_functions)


def remember() -> None:
    """Read each option file once, and parse each interpolation once, in all compositions of this process."""
    config_loader_impl.ConfigRepository = _Repository  # type: ignore[attr-defined]
    # The choices so far, which Hydra makes a configuration of for each file, although few name an option by another's.
    defaults_list._create_interpolation_map = _map_if_used  # type: ignore[assignment]
    base.parse = _parsed  # type: ignore[attr-defined]
    # The functions of the grammar of overrides, whose signatures Hydra would read for each of --help's 184 groups.
    overrides_parser.create_functions = _functions


class _Repository(ConfigRepository):
    """Hydra's option files, each read once; one that changes is read again."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is not None and source.scheme() == "file":
            path = Path(source.path, source._normalize_file_name(config_path))
            key = (str(path), path.stat().st_mtime_ns)
        elif source is not None and source.path == "hydra.conf":  # Hydra's own, which nobody edits
            key = (f"{source.path}/{config_path}", 0)
        else:
            return super().load_config(config_path)
        if key not in _READ:
            _READ[key] = pickle.dumps(super().load_config(config_path))
        found = pickle.loads(_READ[key])
        assert isinstance(found, ConfigResult)
        return found

    @functools.cached_property
    def _options(self) -> dict[tuple[str, ObjectType | None], list[str]]:
        return {}  # by group; --help lists all groups twice

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        key = (group_name, results_filter)
        if key not in self._options:
            self._options[key] = super().get_group_options(group_name, results_filter)
        return list(self._options[key])


def _map_if_used(overrides: Any, defaults: Sequence[InputDefault], self_added: bool) -> DictConfig:
    if any(default.is_interpolation() for default in defaults):
        return _interpolation_map(overrides, list(defaults), self_added)
    return OmegaConf.create()


#: The tree of a value with interpolations, which OmegaConf only reads.
_parsed = functools.lru_cache(maxsize=10_000)(parse)
