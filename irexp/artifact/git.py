"""The state of the code in git: the commit, and the changes since as a patch that a job keeps."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What decides results: the code and the configuration, not texts and results beside them.
_PATHS = ("--", ":/irexp", ":/conf", ":/run.py", ":/hydra_plugins")

#: The patch in the output folder of a job.
PATCH = "changes.patch"

#: The most bytes of a patch that are kept; of a larger one only the summary.
LARGEST_PATCH = 2**20


@dataclass(frozen=True)
class GitState:
    """The code of a process.

    Attributes:
        commit: the commit that is checked out.
        patch: what changed since, for `git apply`, with new files; empty if nothing did.
        summary: the changed files, with the number of their changed lines.
    """

    commit: str
    patch: bytes
    summary: str

    def recorded(self) -> dict[str, Any]:
        """What a manifest says: the commit, whether the code differs from it, and the digest of the patch."""
        patch = {"patch": hashlib.sha256(self.patch).hexdigest()} if self.patch else {}
        return {"commit": self.commit, "dirty": bool(self.patch), **patch}

    def save(self, folder: Path) -> None:
        """Write the patch, if there is one, into a job's output folder; beside another one under a name of its own."""
        if not self.patch:
            return
        too_large = f"The patch has {len(self.patch):,} bytes, too many to keep; its files:\n{self.summary}\n"
        content = self.patch if len(self.patch) <= LARGEST_PATCH else too_large.encode()
        path = folder / PATCH
        if path.is_file() and path.read_bytes() != content:  # of another process of the sweep, which began earlier
            path = path.with_stem(f"{path.stem}-{hashlib.sha256(self.patch).hexdigest()[:8]}")
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(content)
        os.replace(partial, path)


@functools.cache
def own_state() -> GitState | None:
    """The state of irexp's code when it was first asked for, which is what this process has loaded."""
    return git_state(Path(__file__).parent)


def git_state(folder: Path) -> GitState | None:
    """The state of the code in a checkout; None outside a checkout or without git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD").decode().strip()
        patch = _git(folder, "diff", "--binary", "--no-color", "--no-ext-diff", "HEAD", *_PATHS)
        summary = _git(folder, "diff", "--stat", "--no-color", "HEAD", *_PATHS).decode(errors="replace")
        root = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
        added = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *_PATHS).decode().split("\0")
        for name in filter(None, added):
            patch += _git(root, "diff", "--binary", "--no-color", "--no-index", "--", "/dev/null", name, differs=True)
            summary += f" {name} (new)\n"
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(commit, patch, summary)


def _git(folder: Path, *arguments: str, differs: bool = False) -> bytes:
    """What git prints; with `differs` status 1 means success, as of a comparison with a file outside of git."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=10)
    if done.returncode not in ((0, 1) if differs else (0,)):
        raise subprocess.SubprocessError(done.stderr.decode(errors="replace"))
    return done.stdout
