"""What the store asks of the file system."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from irexp.artifact.disk import hold_lock, is_locked


def test_a_lock_that_was_removed_while_one_waited_for_it_is_taken_anew(tmp_path: Path) -> None:
    """The removed file would lock nobody out: who comes later makes a file of the same name."""
    lock = tmp_path / ".lock"
    begun, held, done = Event(), Event(), Event()

    def wait() -> None:
        begun.set()
        with hold_lock(lock, "it"):
            held.set()
            done.wait(60)

    with hold_lock(lock, "it"):
        waiting = Thread(target=wait)
        waiting.start()
        assert begun.wait(60) and not held.wait(0.3)
        lock.unlink()
    assert held.wait(60) and is_locked(lock)
    done.set()
    waiting.join(60)
    assert not is_locked(lock)
