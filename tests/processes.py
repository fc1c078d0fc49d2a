"""Several processes in one test: a port reserved for them, and none that waits for a failed one."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.commands import Command


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other program is given until the block ends.

    This socket is bound, but does not listen. Both it and the socket of torch's store set SO_REUSEADDR, so that the
    store may listen on the port. If the port were released first, another program could take it before the store.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def wait_for_all(processes: Sequence[subprocess.Popen[str] | Command]) -> list[int]:
    """The return code of each process; if one fails, the others are killed, since they would wait for it."""
    while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
        time.sleep(0.05)
    for process in processes:
        process.kill()  # no effect on a process that has ended
    return [process.wait() for process in processes]
