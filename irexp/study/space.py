"""The search space of a sweep: what is typed as key=interval(…), range(…) or a choice, as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from irexp.config.override import parse
from irexp.types import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: The tags that mean something: a logarithmic scale, and whole numbers.
_TAGS = ("log", "int")


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        fixed: the overrides that every trial has.
        swept: the distribution of each key, with its `+` or package if it was typed with one.
    """

    fixed: tuple[str, ...]
    swept: Mapping[str, BaseDistribution]

    def overrides(self, parameters: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial."""
        return [*self.fixed, *(f"{key}={text}" for key, text in self.texts(parameters).items())]

    def texts(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """The parameters of a trial as they are typed, in the order of the space."""
        return {key: _text(parameters[key], each) for key, each in self.swept.items() if key in parameters}


def parse_space(typed: Sequence[str], params: Mapping[str, Any], loader: ConfigLoader) -> Space:
    """The search space of a sweep.

    Args:
        typed: the overrides of the command line.
        params: those of a file, `hydra.sweeper.params`; a key that is typed, too, is taken from the command line.
        loader: knows the options that `glob` chooses from.

    Raises:
        UserError: if nothing is swept, or Optuna cannot sample a key.
    """
    overrides, faults = parse([*(f"{key}={value}" for key, value in params.items()), *typed], loader)
    if faults:
        raise UserError("; ".join(faults))
    last = {override.key_or_group: override for override in overrides}
    swept = {each.get_key_element(): each for each in last.values() if each.is_sweep_override()}
    if not swept:
        raise UserError(
            "nothing is swept; give a key several values, such as training.learning_rate=tag(log,interval(1e-5,1e-3)), "
            "search.depth=range(10,100,10) or model=sbert,splade"
        )
    fixed = tuple(str(each.input_line) for each in last.values() if not each.is_sweep_override())
    return Space(fixed, {key: _distribution(override) for key, override in swept.items()})


def _distribution(override: Override) -> BaseDistribution:
    """The distribution that a swept key is drawn from.

    Raises:
        UserError: if it has a tag without a meaning, or is empty, or its scale does not fit.
    """
    from optuna.distributions import CategoricalDistribution

    value = override.value()
    tags = set(getattr(value, "tags", ()))
    if unknown := sorted(tags - set(_TAGS)):
        raise UserError(f"{override.input_line}: the tag {unknown[0]} has no meaning here; there are log and int")
    try:
        if isinstance(value, IntervalSweep):
            assert value.start is not None and value.end is not None
            is_whole = "int" in tags or isinstance(value.start, int)
            return _numbers(value.start, value.end, None, is_whole=is_whole, is_log="log" in tags)
        if isinstance(value, RangeSweep):
            numbers = list(value.range())  # without its end, as in Python
            step = abs(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
            is_whole = all(isinstance(number, int) for number in numbers)
            return _numbers(min(numbers), max(numbers), step, is_whole=is_whole, is_log="log" in tags)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error
    if tags:
        raise UserError(f"{override.input_line}: log and int are tags of an interval or a range, not of a choice")
    return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))


def _numbers(low: float, high: float, step: float | None, *, is_whole: bool, is_log: bool) -> BaseDistribution:
    """A distribution of numbers from `low` to `high`, both included."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if is_whole:
        return IntDistribution(int(low), int(high), log=is_log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=is_log, step=step)


def _text(value: Any, distribution: BaseDistribution) -> str:
    """A drawn value as it is typed; a multiple of a step as 0.3 rather than 0.30000000000000004."""
    return f"{value:.12g}" if isinstance(value, float) and getattr(distribution, "step", None) else str(value)
