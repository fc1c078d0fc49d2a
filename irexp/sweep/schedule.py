"""Which task of a graph can begin, and which ones a failure takes with it; nothing is run here."""

from __future__ import annotations

from collections.abc import Collection, Mapping


class Schedule:
    """The state of each task.

    Attributes:
        done: the tasks that are done, with their seconds.
        failed: the tasks that failed, and those that cannot begin because of that, with the task whose error it is.
        running: the tasks that have begun.
    """

    def __init__(self, needs: Mapping[str, Collection[str]]) -> None:
        """All tasks wait.

        Args:
            needs: the tasks that each task needs; those come before it.
        """
        self._needs = needs
        self._length = _longest_chains(needs)
        self.done: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.running: set[str] = set()

    @property
    def waiting(self) -> list[str]:
        """The tasks that have not begun, in order."""
        return [key for key in self._needs if key not in self.done | self.failed and key not in self.running]

    @property
    def is_over(self) -> bool:
        """Whether no task is left that could still be made."""
        return len(self.done) + len(self.failed) == len(self._needs)

    def ready(self, *, early: bool = False) -> list[str]:
        """The tasks that can begin, those first from which the longest chain of others hangs, so that all end together.

        Args:
            early: whether a task may also begin when what it needs has begun, because a cluster lets it wait.
        """
        if early:
            return self.waiting
        able = [key for key in self.waiting if all(need in self.done for need in self._needs[key])]
        return sorted(able, key=lambda key: -self._length[key])

    def start(self, key: str) -> None:
        """A task begins."""
        self.running.add(key)

    def finish(self, key: str, seconds: float) -> None:
        """A task is done."""
        self.running.remove(key)
        self.done[key] = seconds

    def fail(self, key: str) -> list[str]:
        """A task failed; returns all others that need it, directly or not, which are failed, too."""
        self.running.remove(key)
        self.failed[key] = key
        lost = []
        for other, needs in self._needs.items():
            if other not in self.failed and any(self.failed.get(need) == key for need in needs):
                self.failed[other] = key
                self.running.discard(other)
                lost.append(other)
        return lost


def _longest_chains(needs: Mapping[str, Collection[str]]) -> dict[str, int]:
    """The number of tasks in the longest chain from each task through those that need it."""
    found = dict.fromkeys(needs, 1)
    for key in reversed(list(needs)):  # a task stands after those that it needs
        for need in needs[key]:
            found[need] = max(found[need], 1 + found[key])
    return found
