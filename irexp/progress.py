"""The progress of whatever can take more than a few seconds: a bar on a terminal, and now and then a line in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from time import monotonic, strftime
from types import TracebackType
from typing import Protocol, Self, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

#: Seconds between two lines of a log that is not a terminal.
EVERY = 30.0

#: Seconds after which a bar appears; what takes less shows none.
_DELAY = 2.0


class Progress(Protocol):
    """Counts what is done; a context, at whose end it is closed."""

    def update(self, n: float | None = 1) -> object:
        """Count `n` more."""

    def close(self) -> object:
        """End it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Lines:
    """Progress as lines on stderr, at most one every 30 seconds, for a log in a file or of another process."""

    def __init__(self, *, total: float | None, unit: str, desc: str, initial: float = 0) -> None:
        """Nothing is written before the first 30 seconds are over."""
        self._total, self._unit, self._desc, self._initial = total, unit, desc, initial
        self._done = initial
        self._begun = self._written = monotonic()

    def update(self, n: float | None = 1) -> None:
        """Count `n` more, and write a line if the last one is old enough."""
        self._done += n or 0
        if (now := monotonic()) - self._written >= EVERY:
            self._written = now
            sys.stderr.write(f"[{strftime('%H:%M:%S')}] {self._line(now - self._begun)}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Nothing is left to write: the end of each stage is logged with its seconds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, seconds: float) -> str:
        return tqdm.format_meter(
            self._done,
            self._total,  # type: ignore[arg-type]  # None, if it is not known, is allowed
            seconds,
            prefix=self._desc,
            unit=self._unit,
            initial=self._initial,
            bar_format="{desc}: {n:,.0f} of {total_fmt}{unit}, {elapsed} since the start, {remaining} left, {rate_fmt}"
            if self._total
            else "{desc}: {n:,.0f}{unit}, {elapsed} since the start, {rate_fmt}",
        )


class Silent(Lines):
    """Progress that is not shown."""

    def update(self, n: float | None = 1) -> None:
        """Write nothing."""


def is_terminal() -> bool:
    """Whether a bar can be drawn: stderr is neither a file nor a pipe."""
    return sys.stderr.isatty()


def progress(
    *,
    total: float | None = None,
    unit: str,
    desc: str,
    initial: float = 0,
    shown: bool = True,
    delayed: bool = False,
) -> Progress:
    """A bar on a terminal; lines at most every 30 seconds otherwise, since a bar would flood a log.

    Args:
        total: how many there are, if known.
        unit: what is counted, with a space before it.
        desc: the word before the bar.
        initial: how many were done before.
        shown: whether to show anything, such as machine.progress.
        delayed: whether the bar appears only after two seconds, for what is mostly quick.
    """
    if not shown:
        return Silent(total=total, unit=unit, desc=desc, initial=initial)
    if not is_terminal():
        return Lines(total=total, unit=unit, desc=desc, initial=initial)
    return tqdm(total=total, unit=unit, desc=desc, initial=initial, delay=_DELAY if delayed else 0)


def counted(
    items: Iterable[Item], *, unit: str, desc: str, shown: bool = True, delayed: bool = False
) -> Iterator[Item]:
    """The same items, with their progress."""
    total = len(items) if isinstance(items, Sized) else None
    with progress(total=total, unit=unit, desc=desc, shown=shown, delayed=delayed) as bar:
        for item in items:
            yield item
            bar.update()
