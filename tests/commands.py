"""`run.py` in processes that are forked from one which has imported what it needs: real processes, which can be killed.

A new interpreter imports torch, transformers and Lightning for ten seconds, of which most tests prove nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType

from tests.reliability.jobs import ROOT


class Command:
    """A command that was started, with the part of `subprocess.Popen` that tests use."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], log: Path, environment: Mapping[str, str], module: str | None
    ) -> None:
        """Start it; see `start`."""
        place = (str(folder), list(arguments), str(log), dict(environment), module)
        self._process = _context().Process(target=_run, args=place)
        self._process.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, -9 after SIGKILL; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait until it ends; the exit status."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        self.wait()


def start(
    folder: Path,
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    module: str | None = None,
) -> Command:
    """Start `run.py` in a folder.

    Args:
        folder: the working directory.
        arguments: what is typed after `run.py`.
        log: the file that what is printed is added to.
        environment: variables besides those of this process.
        module: what is started instead of `run.py`, as by `python -m`.
    """
    return Command(folder, arguments, log, {**os.environ, **(environment or {})}, module)


def finish(
    folder: Path,
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    module: str | None = None,
) -> tuple[int, str]:
    """Run `run.py` in a folder, as `start` does; the exit status, and what it printed."""
    log.unlink(missing_ok=True)
    status = start(folder, arguments, log, environment, module=module).wait()
    return status, log.read_text(encoding="utf8")


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.reliability.prepared"])  # only for the first process
    return context


def _run(folder: str, arguments: list[str], log: str, environment: dict[str, str], module: str | None) -> None:
    """A command, in the process that was forked."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    os.environ.clear()
    os.environ.update(environment)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.argv = [module or str(ROOT / "run.py"), *arguments]
    if module is None:
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__")
