"""What Hydra and OmegaConf would do again for each configuration that is composed, and each value that is resolved.

A command composes its configuration three times, and a plan dozens from the same files. The functions that replace
Hydra's and OmegaConf's return the same.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser import overrides_parser
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, _utils, base
from omegaconf.grammar_parser import parse
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

#: The option files that were read, by path and time of change; pickled, which is copied fastest.
_READ: dict[tuple[str, int], bytes] = {}

_interpolation_map = defaults_list._create_interpolation_map
_functions = functools.cache(overrides_parser.create_functions)
_OmegaConfLoader = _utils.get_yaml_loader()


def remember() -> None:
    """Read each option file once, and parse each interpolation once, in all compositions of this process."""
    config_loader_impl.ConfigRepository = _Repository  # type: ignore[attr-defined]
    # The choices so far, which Hydra makes a configuration of for each file, although few name an option by another's.
    defaults_list._create_interpolation_map = _map_if_used  # type: ignore[assignment]
    base.parse = _parsed  # type: ignore[attr-defined]
    # The functions of the grammar of overrides, whose signatures Hydra would read for each of --help's 184 groups.
    overrides_parser.create_functions = _functions
    if yaml.__with_libyaml__:
        _utils.get_yaml_loader = lambda: _Loader


class _Repository(ConfigRepository):
    """Hydra's option files, each read once; one that changes is read again. Each folder is listed once."""

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
        return {}  # by group

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        key = (group_name, results_filter)
        if key not in self._options:
            sources = (source for source in self.sources if source.is_group(group_name))
            found = (self._listed(source, group_name, results_filter) for source in sources)
            self._options[key] = sorted({option for options in found for option in options})
        return list(self._options[key])

    @staticmethod
    def _listed(source: ConfigSource, group: str, results_filter: ObjectType | None) -> list[str]:
        """A source's options; a folder's without resolving each file's path twice, as Hydra does."""
        if source.scheme() != "file":
            return source.list(group, results_filter)
        found = []
        for entry in os.scandir(os.path.join(source.path, group)):
            if entry.is_dir():
                if results_filter != ObjectType.CONFIG and entry.name != "__pycache__":
                    found.append(entry.name)
            elif entry.is_file() and entry.name.endswith(".yaml") and results_filter != ObjectType.GROUP:
                found.append(entry.name.removesuffix(".yaml"))
        return found


if yaml.__with_libyaml__:
    from yaml._yaml import CParser

    class _Loader(CParser, _OmegaConfLoader):  # type: ignore[misc, valid-type]
        """OmegaConf's loader with libyaml's parser, seven times as fast as Python's, which describes the errors."""

        def __init__(self, stream: Any) -> None:
            self._text = stream.read() if hasattr(stream, "read") else stream
            self._name = getattr(stream, "name", None)
            super().__init__(self._text)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

        def get_single_data(self) -> Any:
            try:
                return super().get_single_data()
            except yaml.YAMLError:
                loader = _OmegaConfLoader(self._text)
                loader.name = self._name or loader.name
                return loader.get_single_data()


def _map_if_used(overrides: Any, defaults: Sequence[InputDefault], self_added: bool) -> DictConfig:
    if any(default.is_interpolation() for default in defaults):
        return _interpolation_map(overrides, list(defaults), self_added)
    return OmegaConf.create()


#: The tree of a value with interpolations, which OmegaConf only reads.
_parsed = functools.lru_cache(maxsize=10_000)(parse)
