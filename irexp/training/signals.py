"""The exit status of a stopped program, as shells report it: 128 plus the signal's number."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """In the block SIGTERM raises SystemExit with status 143, and a second SIGTERM kills the process.

    Without it, Lightning ends a stopped training with status 0, which Slurm, make and `&&` take for success, and other
    stages die before they can record that they were stopped. A program's own handler is left alone.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Raise the KeyboardInterrupt that Lightning's trainer turned into an exit with status 1."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def status_of(error: BaseException) -> int | str | None:
    """The exit status of a program that a KeyboardInterrupt or SystemExit ends."""
    return error.code if isinstance(error, SystemExit) else 128 + signal.SIGINT


def is_stop(error: BaseException) -> bool:
    """Whether a program ends because a signal stopped it."""
    if isinstance(error, SystemExit):
        return error.code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    return isinstance(error, KeyboardInterrupt)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)
