"""Overrides that are typed as key=value or swept by a file, and the values that jobs get from them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from antlr4 import CommonTokenStream, InputStream
from hydra._internal.grammar.functions import Functions
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.overrides_visitor import HydraOverrideVisitor
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser
from omegaconf import DictConfig, OmegaConf

from irexp.config.installation import CONF

#: The groups of which a job may take several options: each stage has a key of its own, and losses are added up.
_LISTS = ("stage", "loss", "hydra")

#: The most combinations of a sweep's options that are checked; each job checks its own configuration again.
_MOST_COMBINATIONS = 32


def parse(arguments: Sequence[str], loader: ConfigLoader) -> tuple[list[Override], list[str]]:
    """The overrides among the arguments, and what is wrong with the rest.

    Args:
        arguments: the arguments as typed.
        loader: knows the options that `glob` chooses from.
    """
    overrides, faults = [], []
    for argument in arguments:
        try:
            (override,) = OverridesParser.create(loader).parse_overrides([argument])  # `create` passes the loader on
            if twice := _keys_twice(argument):
                faults += [f"{override.key_or_group}: {key!r} is there twice; give each its own name" for key in twice]
            elif values(override):
                overrides.append(override)
            else:
                faults.append(f"{argument}: this chooses no value")
        except HydraException as error:
            quote = "quote a value with brackets or letters beyond ASCII: 'key=\"value(x)\"'"
            faults.append(f"{argument}: {str(error).splitlines()[0]}; {quote}")
        except ValueError as error:  # range with a step of 0
            faults.append(f"{argument}: {error}")
    return overrides, faults


def flags_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the flags before the overrides: Hydra's parser takes no flag between two overrides."""
    flags, overrides = list(arguments), get_args_parser().parse_intermixed_args(list(arguments)).overrides
    for override in overrides:
        flags.remove(override)
    return [*flags, *overrides]


def _keys_twice(argument: str) -> list[str]:
    """The keys that a dictionary of a right override holds twice, of which Hydra keeps the last."""
    if argument.count(":") < 2:
        return []
    visitor = _Keys(create_functions())
    parser: Any = OverrideParser(CommonTokenStream(OverrideLexer(InputStream(argument))))
    visitor.visit(parser.override())
    return visitor.twice


class _Keys(HydraOverrideVisitor):
    """Collects the keys that a dictionary holds twice."""

    def __init__(self, functions: Functions) -> None:
        super().__init__(functions)
        self.twice: list[str] = []

    def visitDictContainer(self, ctx: OverrideParser.DictContainerContext) -> dict[str, Any]:
        pairs = [self.visitDictKeyValuePair(ctx.getChild(i)) for i in range(1, ctx.getChildCount() - 1, 2)]
        counted = Counter(key for key, _ in pairs)
        self.twice += [str(key) for key, number in counted.items() if number > 1]
        return dict(pairs)


def as_typed(value: Any) -> str:
    """A plain value as it is typed after `key=`."""
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, str):
        return str(QuotedString(value, Quote.double).with_quotes())
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def values(override: Override) -> list[Any]:
    """The values that jobs get: the single value, all values of a sweep, or the two ends of a range or interval."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        return [int(value.start), int(value.end)] if "int" in value.tags else [value.start, value.end]
    if not override.is_sweep_override():
        return [value]
    if override.is_range_sweep():
        numbers: list[Any] = list(override.sweep_iterator())
        return [min(numbers), max(numbers)] if numbers else []
    return [_value(text) for text in override.sweep_string_iterator()]


def _value(text: str) -> Any:
    return OverridesParser.create().parse_override(f"key={text}").value()


def choices(override: Override) -> list[str]:
    """The overrides of a group that jobs get: the single one, or one per option of a sweep."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={text}" for text in override.sweep_string_iterator()]


def single_option_faults(chosen: Mapping[str, Any], config: DictConfig, overrides: Iterable[str]) -> list[str]:
    """The groups that were given a list of options, typed or in a file, though a job takes one: parts would be mixed.

    Args:
        chosen: the option of each group, as Hydra records it: a group with a list is missing.
        config: the composed configuration.
        overrides: those that compose it.
    """
    typed = {override.partition("=")[0].lstrip("+").partition("@")[0]: override for override in overrides}
    faults = []
    for group in _groups_of_one():
        if fault := list_fault(typed.get(group, "")):
            faults.append(fault)
        elif group not in chosen and isinstance(config.get(group), DictConfig) and f"~{group}" not in typed:
            faults.append(f"{group}: a file lists several options, of which a job takes one; keep one in its defaults")
    return faults


def list_fault(override: str) -> str | None:
    """That an override gives a list of options to a group of which a job takes one; None if it does not."""
    group = override.partition("=")[0].lstrip("+").partition("@")[0]
    if "=[" not in override or group not in _groups_of_one():
        return None
    options = override.partition("=")[2].strip("[]").replace(" ", "")
    return f"{override}: a job takes one option of {group}; sweep over several with -m {group}={options}"


def _groups_of_one() -> list[str]:
    """The groups of which a job takes one option."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in _LISTS)


def overruled_faults(config: DictConfig, overrides: Iterable[str]) -> list[str]:
    """Whether `training=none` was chosen, and a recipe sets the steps after it: what was to be untrained would train.

    Args:
        config: the composed configuration.
        overrides: those that compose it, and those that are set later.
    """
    typed = {override.partition("=")[0].lstrip("+"): override.partition("=")[2] for override in overrides}
    if typed.get("training", "").strip("'\"") != "none":
        return []
    for key, value in (("steps", 0), ("epochs", None)):
        found = OmegaConf.select(config, f"training.{key}")
        if found and f"training.{key}" not in typed:
            none = "null" if value is None else value
            return [
                f"training=none: another file sets training.{key}={found} after it, so that the model would be "
                f"trained; add training.{key}={none}"
            ]
    return []


def combinations(groups: Sequence[list[str]]) -> list[tuple[str, ...]]:
    """Combinations of the choices of several groups: all, or enough to contain each choice.

    >>> combinations([["a=1", "a=2"], ["b=1"]])
    [('a=1', 'b=1'), ('a=2', 'b=1')]
    """
    first = tuple(each[0] for each in groups)
    one_by_one = [
        (*first[:place], choice, *first[place + 1 :]) for place, each in enumerate(groups) for choice in each[1:]
    ]
    found = dict.fromkeys([first, *one_by_one])
    for combination in itertools.islice(itertools.product(*groups), _MOST_COMBINATIONS):
        if len(found) < _MOST_COMBINATIONS:
            found[combination] = None
    return list(found)
