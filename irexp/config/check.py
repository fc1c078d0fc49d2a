"""The check of a composed configuration: every fault in one message, before anything is loaded.

Records are checked against their fields, plain values against their types, choices and ranges, components against their
signatures.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irexp.config.component import component_faults
from irexp.config.limits import ARGUMENT_RANGES, CHOICES, MEASURES, RANGES
from irexp.config.packages import packages_of_targets
from irexp.config.schema import RECORDS, Config
from irexp.types import UserError

#: The top-level keys of a configuration that hold plain values.
_TOP = ("seed", "baselines", "mean", "objective", "force", "dry_run", "confirm")


class ConfigError(UserError):
    """A configuration that cannot be run; the message lists every fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        """An error that lists each fault once, in order."""
        self.faults = list(dict.fromkeys(faults))
        super().__init__("this configuration cannot be run:\n" + "\n".join(f"  {fault}" for fault in self.faults))


#: Digests of the configurations that were found to have no faults: a plan composes many of them several times.
_WITHOUT_FAULTS: set[bytes] = set()


def check(config: DictConfig) -> dict[str, Any]:
    """Check a composed configuration and resolve it; one that was found right before is not walked through again.

    Returns:
        its plain values without interpolations; `???` stays.

    Raises:
        ConfigError: naming every fault.
    """
    try:
        values = _plain(config, resolve=True)
    except OmegaConfBaseException:
        if faults := config_faults(config):
            raise ConfigError(faults) from None
        raise
    content = repr((_plain(config, resolve=False), values, packages_of_targets()))  # all that the faults depend on
    digest = hashlib.sha256(content.encode()).digest()
    if digest not in _WITHOUT_FAULTS:
        if faults := config_faults(config):
            raise ConfigError(faults)
        _WITHOUT_FAULTS.add(digest)
    return values


def _plain(config: DictConfig, *, resolve: bool) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=resolve, enum_to_str=True, throw_on_missing=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


#: Keys that name another experiment or its file.
_EXPERIMENTS = ("re_rank.candidates", "negatives.candidates", "negatives.scores", "teacher.scores", "score.candidates")


def config_faults(config: DictConfig, keys: Collection[str] | None = None) -> list[str]:
    """Every fault of a composed configuration.

    Args:
        config: composed.
        keys: the top-level keys to check; None for all.
    """
    wanted = [str(key) for key in config] if keys is None else keys
    if numbers := _number_faults(config):
        return numbers  # without which nothing below finds its way
    known = Config.__dataclass_fields__
    faults = [f"{key}: there is no such key{near(key, known)}" for key in wanted if key not in known]
    faults += _plain_faults(config, "", Config, [key for key in _TOP if key in wanted])
    for name in (name for name in RECORDS if name in wanted or keys is None):
        faults += record_faults(config.get(name), name, RECORDS[name])
    if keys is None:
        faults += [f"{key}: needs a value, as {key}=…" for key in missing_keys(config)]
    faults += [fault for key in MEASURES if key.partition(".")[0] in wanted for fault in _measure_faults(config, key)]
    faults += _empty_faults(config, wanted)
    return faults + _table_faults(config) + component_faults(config, wanted) + _argument_faults(config, wanted)


def _number_faults(config: DictConfig) -> list[str]:
    """The keys that are not texts, as 2019 or yes without quotes is in a file, such as the name of a row or a set."""
    return [
        f"{path}: the name {name!r} is a {'truth value (yes, no, on, off)' if isinstance(name, bool) else 'number'}; "
        f"write it in quotes"
        for path, name in _keys_of(_plain(config, resolve=False), "")
        if not isinstance(name, str)
    ]


def _keys_of(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The keys of dictionaries at any depth, each after the dotted path of its dictionary."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path, key
            yield from _keys_of(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _keys_of(inner, f"{path}[{place}]")


def _empty_faults(config: DictConfig, keys: Collection[str]) -> list[str]:
    """The paths and artifacts that are an empty text, as `key=$UNSET` gives: it would be taken for a folder."""
    written = _plain(config, resolve=False)
    flat = _texts_of({key: written[key] for key in written if key in keys}, "")
    named = {key for key, text in flat if not text.strip() and (key.endswith("path") or key.startswith("artifact."))}
    named |= {key for key, text in flat if key in _EXPERIMENTS and not text.strip()}
    return [f"{key}: is empty; give a value, or null for none" for key in sorted(named)]


def _texts_of(value: Any, path: str) -> list[tuple[str, str]]:
    """The texts in dictionaries, with their dotted paths."""
    if isinstance(value, str):
        return [(path, value)]
    entries = value.items() if isinstance(value, dict) else ()
    return [found for key, inner in entries for found in _texts_of(inner, f"{path}.{key}".lstrip("."))]


def _table_faults(config: DictConfig) -> list[str]:
    """What is wrong with the rows and columns of the table."""
    faults = []
    for key, example in (("rows", "{BM25: [model=bm25]}"), ("columns", "{DL 2019: [dataset=trec_dl_2019]}")):
        value = OmegaConf.to_container(config[key], resolve=False) if config.get(key) is not None else {}
        entries = list(value.values()) if isinstance(value, dict) else [value]
        if not all(isinstance(entry, list) and all(isinstance(one, str) for one in entry) for entry in entries):
            faults.append(f"{key}: {value!r} must map each name to a list of overrides, such as {key}={example}")
    rows, against = config.get("rows") or {}, config.get("against") or {}
    if not isinstance(against, DictConfig | dict):
        return [*faults, f"against: {against!r} must map a row to the row that it is tested against, such as {{A: B}}"]
    if against and not rows:
        return [*faults, "against: names rows of the table, which have names only if rows={…} gives them"]
    names = [str(name) for pair in against.items() for name in pair]
    return faults + [f"against: there is no row {name!r}{near(name, rows)}" for name in names if name not in rows]


def near(word: str, choices: Iterable[str], *, cutoff: float = 0.5) -> str:
    """The end of an error message: the nearest spelling, or all choices."""
    names = [str(choice) for choice in choices]
    begun = [name for name in names if len(word) > 1 and name.startswith(word)]
    matches = begun if len(begun) == 1 else difflib.get_close_matches(word, names, n=1, cutoff=cutoff)
    if matches:
        return f"; did you mean {matches[0]}?"
    return f"; there are {', '.join(sorted(names))}" if names else ""


def record_faults(node: Any, name: str, record: type) -> list[str]:
    """What is wrong with the keys and values of a record, such as `machine`.

    Args:
        node: the node of the configuration.
        name: its path.
        record: the dataclass that types it.
    """
    if not isinstance(node, DictConfig):
        return [f"{name}: must hold the keys of {record.__name__}, not {node!r}"]
    fields = {each.name: each for each in dataclasses.fields(record)}
    required = [name for name, each in fields.items() if each.default is each.default_factory is dataclasses.MISSING]
    keys = [str(key) for key in node]
    return [
        *(f"{name}.{key}: {record.__name__} has no '{key}'{near(key, fields)}" for key in keys if key not in fields),
        *(f"{name}.{key}: {record.__name__} needs it" for key in required if key not in keys),
        *_plain_faults(node, f"{name}.", record, [key for key in keys if key in fields]),
    ]


def _plain_faults(node: DictConfig, prefix: str, record: type, keys: Iterable[str]) -> list[str]:
    """What is wrong with plain values: the type, the choice or the range."""
    schema = _schema(record)
    faults = []
    for key in keys:
        if OmegaConf.is_missing(node, key) or not _resolves(node, key):
            continue
        name = f"{prefix}{key}"
        try:
            schema[key] = node[key]
        except OmegaConfBaseException as error:
            faults.append(f"{name}: {_explained(error, name, node[key])}")
            continue
        value = schema[key]
        if name in CHOICES and value is not None and value not in CHOICES[name]:
            faults.append(f"{name}: {value!r} is not a choice{near(str(value), CHOICES[name])}")
        faults += _range_faults(name, value, RANGES)
    return faults


def _resolves(node: DictConfig, key: str) -> bool:
    """Whether a key holds a value, or an interpolation of one; what cannot be resolved has its own fault."""
    if not OmegaConf.is_interpolation(node, key):
        return True
    try:
        node[key]
    except OmegaConfBaseException:
        return False
    return True


def _range_faults(name: str, value: Any, ranges: Mapping[str, tuple[float, float | None]]) -> list[str]:
    """What is wrong with a number; None is always allowed."""
    least, most = ranges.get(name, (None, None))
    if least is None or value is None or least <= value <= (value if most is None else most):
        return []
    allowed = f"at least {least}" if most is None else f"from {least} to {most}"
    return [f"{name}: {value} is out of range; it must be {allowed}"]


def _argument_faults(config: DictConfig, keys: Collection[str]) -> list[str]:
    """What is wrong with the numbers in `ARGUMENT_RANGES`."""
    faults = []
    for name in ARGUMENT_RANGES:
        group, _, key = name.partition(".")
        node = config.get(group) if group in keys else None
        value = node.get(key) if isinstance(node, DictConfig) else None
        if isinstance(value, int | float):  # another type has a fault of its own
            faults += _range_faults(name, value, ARGUMENT_RANGES)
    return faults


def _explained(error: OmegaConfBaseException, name: str, value: Any) -> str:
    """The first line of an error of OmegaConf; that about a list says how one is written."""
    line = str(error).splitlines()[0]
    return f"{value} is not a list; write {name}=[{value}]" if "is not a ListConfig" in line else line


@functools.cache
def _schema(record: type) -> DictConfig:
    """An instance of a record to try values in."""
    return OmegaConf.structured(record)  # type: ignore[no-any-return]


def _measure_faults(config: DictConfig, key: str) -> list[str]:
    """What is wrong with the names of measures at a key, and those that cannot count from the collection's grade."""
    from irexp.config.measure import counting_from, parse_measure  # imports ir_measures, for which --help need not wait

    try:
        value = OmegaConf.select(config, key)
        grade = OmegaConf.select(config, "dataset.test.relevance") if key == "evaluation.measures" else None
    except OmegaConfBaseException:
        return []  # what cannot be resolved has its own fault
    names = value if isinstance(value, ListConfig) else [value]
    faults = []
    for name in (name for name in names if isinstance(name, str)):
        try:
            measure = parse_measure(name)
            if isinstance(grade, int):
                counting_from(measure, grade)
        except UserError as error:
            faults.append(f"{key}: {error}")
    return faults


def missing_keys(node: DictConfig, path: str = "") -> list[str]:
    """Keys that hold `???`, without resolving any interpolation on the way."""
    missing = []
    for key in map(str, node):
        name = f"{path}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key):
            missing.append(name)
        elif not OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig):
            missing += missing_keys(node[key], name)
    return missing
