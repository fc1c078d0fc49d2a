"""Axes: the range of a chart, its round tick values, and where a value is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: The steps between ticks, times a power of ten.
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Scale:
    """An axis from `least` to `most`, drawn from `start` to `end` (pixels)."""

    least: float
    most: float
    start: float
    end: float
    ticks: tuple[float, ...]
    is_logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value is drawn."""
        low, high, at = (self._of(number) for number in (self.least, self.most, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.is_logarithmic else value


def linear(values: Sequence[float], start: float, end: float, *, count: int = 5) -> Scale:
    """An axis that begins and ends at a tick.

    >>> linear([0.12, 0.48], 0, 100).ticks
    (0.1, 0.2, 0.3, 0.4, 0.5)
    """
    least, most = min(values), max(values)
    if most - least <= 1e-12 * max(1.0, abs(most)):  # one value: a range around it
        around = abs(most) / 10 or 1.0
        least, most = least - around, most + around
    rough = (most - least) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    ticks = tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """An axis of costs, with ticks at 1, 2 and 5 times powers of ten, or only at powers if there would be many.

    >>> logarithmic([3.0, 30.0], 0, 100).ticks
    (2.0, 5.0, 10.0, 20.0)
    """
    least, most = min(values) / 1.6, max(values) * 1.6  # a factor above 2.5 in all, so that there is a tick
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ticks = [float(f"{step * 10.0**power:.6g}") for power in powers for step in (1, 2, 5)]
    shown = [tick for tick in ticks if least <= tick <= most]
    if len(shown) > 7:
        shown = [tick for tick in shown if f"{tick:e}".startswith("1.0")]
    return Scale(least, most, start, end, tuple(shown), is_logarithmic=True)


def tick_text(value: float) -> str:
    """A tick's label.

    >>> tick_text(0.25), tick_text(20000.0), tick_text(3e9)
    ('0.25', '20,000', '3e+09')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.6g}"
