"""Worker processes of this machine, which make tasks one after another and end with the process that started them.

A process and a pipe each, not a pool: in a pool a worker that is killed loses the tasks of all, and workers stay when
their parent is killed.
"""

from __future__ import annotations

import atexit
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from irexp.sweep.graph import Task
from irexp.sweep.make import Place, attempt, set_up_logging
from irexp.sweep.runner import Result
from irexp.training.signals import stopped_by_sigterm

_SPAWN = multiprocessing.get_context("spawn")

#: Seconds that a worker has to end by itself.
_GRACE = 5.0


class Workers:
    """Some processes that make one task at a time each.

    Attributes:
        is_early: False, since a task begins at once.
        count: how many there are.
    """

    is_early = False

    def __init__(self, place: Place, *, count: int, gpus: Sequence[str] = ()) -> None:
        """Start them.

        Args:
            place: where tasks are made; each worker logs to a file there.
            count: how many.
            gpus: the value of CUDA_VISIBLE_DEVICES of each worker; used again from the first on if there are fewer.
        """
        self.count: int | None = count
        self._place, self._gpus = place, gpus
        self._workers = [self._new(number) for number in range(count)]

    @property
    def is_free(self) -> bool:
        """Whether a worker has nothing to do."""
        return any(worker.key is None for worker in self._workers)

    def start(self, task: Task) -> None:
        """Hand a task to a free worker."""
        worker = next(worker for worker in self._workers if worker.key is None)
        worker.key = task.key
        with suppress(BrokenPipeError):  # it was killed while it had nothing to do; `wait` reports that
            worker.pipe.send(task)

    def wait(self) -> list[Result]:
        """The tasks of the workers that have ended one, or whose process has died."""
        found = []
        for pipe in wait([worker.pipe for worker in self._workers if worker.key is not None]):
            worker = next(worker for worker in self._workers if worker.pipe is pipe)
            key, worker.key = worker.key, None
            assert key is not None
            try:
                seconds, error = worker.pipe.recv()
            except (EOFError, ConnectionError):
                worker.process.join()
                worker.end()
                error, seconds = self._death(worker), 0.0
                self._workers[worker.number] = self._new(worker.number)
            found.append(Result(key, seconds, error))
        return found

    def drop(self, key: str) -> None:
        """Nothing is handed over before it can begin."""

    def close(self) -> None:
        """End all workers, and what they have started."""
        for worker in self._workers:
            if worker.key is None:
                with suppress(BrokenPipeError):
                    worker.pipe.send(None)
            else:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_GRACE)
            worker.end()

    def _new(self, number: int) -> _Worker:
        gpus = self._gpus[number % len(self._gpus)] if self._gpus else None
        return _Worker(number, self._place, gpus, log_of(self._place.output, number))

    def _death(self, worker: _Worker) -> str:
        status = worker.process.exitcode
        how = f"by {signal.Signals(-status).name}" if status is not None and status < 0 else f"with status {status}"
        hint = "; if the machine ran out of memory, set fewer hydra.launcher.workers" if status == -9 else ""
        return f"the worker was ended {how}; its log is {log_of(self._place.output, worker.number)}{hint}"


class _Worker:
    """One process, and the key of the task that it makes."""

    def __init__(self, number: int, place: Place, gpus: str | None, path: Path) -> None:
        self.number = number
        self.key: str | None = None
        self.pipe, theirs = _SPAWN.Pipe()
        # not a daemon, which may have no children, such as those that tokenize training batches
        self.process = _SPAWN.Process(target=_serve, args=(theirs, place, gpus, path), name=f"worker-{number}")
        self.process.start()
        theirs.close()  # so that the death of the worker is the end of the pipe

    def end(self) -> None:
        """Kill what is left of the process and of those that it started."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.is_alive():  # it was not yet the leader of a group
            self.process.kill()
        self.process.join()
        self.pipe.close()


def log_of(output: Path, number: int) -> Path:
    """The file that a worker logs to."""
    return output / f"worker-{number}.log"


def _serve(pipe: Connection, place: Place, gpus: str | None, path: Path) -> None:
    """A worker: make tasks until there are none."""
    os.setpgid(0, 0)  # a group with its children; Ctrl-C reaches the parent alone, which ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    _log_to(path)
    with stopped_by_sigterm():
        while (task := _next(pipe)) is not None:
            pipe.send(attempt(task, place))
    atexit._run_exitfuncs()  # closes logs and takes back semaphores
    os._exit(0)  # the interpreter would take seconds to take itself apart


def _next(pipe: Connection) -> Task | None:
    try:
        found: Task | None = pipe.recv()
    except EOFError:  # the parent has ended
        return None
    return found


def _end_with_parent() -> None:
    """End this process and its children when the parent dies, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _log_to(path: Path) -> None:
    """Send all output of this process to a file."""
    with path.open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    set_up_logging()
