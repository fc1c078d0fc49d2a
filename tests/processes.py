"""Several processes in one test: a reserved port, and an end to all of them if one fails."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other program is given until the block ends.

    The port is bound here, without listening. This socket and torch's store both set SO_REUSEADDR, so that the store
    may listen on it. If the port were released first, another program could take it before the store does.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def wait_for_all(processes: Sequence[subprocess.Popen[str]]) -> list[int]:
    """The return code of each; if one fails, the others are killed, because they would wait for it."""
    while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
        time.sleep(0.05)
    for process in processes:
        process.kill()  # does nothing to a process that has ended
    return [process.wait() for process in processes]
