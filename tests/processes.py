"""Several processes of one test: a port that is theirs alone, and none that waits for one that has failed."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other program is given until the block ends.

    It is bound here and not listened to. Both this socket and that of torch's store say SO_REUSEADDR, so that the store
    may listen to it; a port that is released before the store takes it could be somebody else's by then.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def wait_for_all(processes: Sequence[subprocess.Popen[str]]) -> list[int]:
    """The return code of each; where one fails, the others would wait for it and are killed."""
    while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
        time.sleep(0.05)
    for process in processes:
        process.kill()  # which does nothing to one that has ended
    return [process.wait() for process in processes]
