"""The libraries that irexp is compared with, and their processes, each in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import irexp
from irexp.config.check import near
from irexp.types import UserError


@dataclass(frozen=True)
class Library:
    """A library that irexp is compared with.

    Attributes:
        name: in tables.
        package: in its environment.
        models: the models that it has, by task.
    """

    name: str
    package: str
    models: Mapping[str, tuple[str, ...]]


#: By their key in stage.peers.python, which also names the module that does their work.
LIBRARIES = {
    "sentence_transformers": Library(
        "sentence-transformers",
        "sentence-transformers[train]",
        {"encode": ("sbert", "colbert"), "re_rank": ("mono",), "fit": ("sbert", "colbert", "splade")},
    ),
    "pylate": Library("PyLate", "pylate", {"encode": ("colbert",), "fit": ("colbert",)}),
    "lightning_ir": Library(
        "Lightning IR",
        "lightning-ir",
        {"encode": ("sbert", "colbert"), "re_rank": ("mono",), "fit": ("sbert", "colbert")},
    ),
}


def check_pythons(pythons: Mapping[str, str | None]) -> None:
    """Refuse an interpreter that does not exist, or whose environment lacks its library.

    Args:
        pythons: the interpreter of each library's environment; None for a library that is left out.

    Raises:
        UserError: naming the first one, and what to install.
    """
    for key, python in pythons.items():
        if key not in LIBRARIES:
            raise UserError(f"stage.peers.python.{key}: there is no such library{near(key, LIBRARIES)}")
        if python is None:
            continue
        package = LIBRARIES[key].package
        command = f"python -m venv FOLDER && FOLDER/bin/pip install '{package}'"
        if not os.access(python, os.X_OK) or Path(python).is_dir():
            raise UserError(
                f"stage.peers.python.{key}={python} is not a program; give the interpreter of an environment with "
                f"{package}: {command}"
            )
        asked = f"from importlib.metadata import version; version({package.partition('[')[0]!r})"
        if subprocess.run([python, "-c", asked], capture_output=True, check=False).returncode:
            raise UserError(f"stage.peers.python.{key}={python}: this environment lacks {package}; {command}")


class Worker:
    """A library at work in a process of its own, which waits between requests.

    Attributes:
        library: irexp, or a key of `LIBRARIES`.
        versions: of the packages that it computes with.
    """

    def __init__(self, library: str, python: str, folder: Path) -> None:
        """Start the process.

        Args:
            library: irexp, or a key of `LIBRARIES`.
            python: the interpreter of its environment.
            folder: for its messages, and a link to this irexp alone, which the other environment sees.
        """
        self.library = library
        source = Path(irexp.__file__).parent
        path = source.parent
        if library != "irexp":
            path = folder / "path"
            path.mkdir(exist_ok=True)
            if not (path / "irexp").exists():
                (path / "irexp").symlink_to(source)
        self._messages = (folder / f"{library}.log").open("a+", encoding="utf8")
        self._process = subprocess.Popen(
            [os.path.abspath(python), "-m", "irexp.peer.worker", library],  # the process has another working folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env=os.environ | {"PYTHONPATH": str(path), "HF_HUB_OFFLINE": "1", "IR_DATASETS_HOME": str(folder / "ir")},
            cwd=folder,
        )
        self.versions: dict[str, str] = self._answer()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let it work, and return its answer.

        Raises:
            RuntimeError: if the library fails, with the end of what it wrote.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which the missing answer says
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._messages.seek(0)
            raise RuntimeError(f"{self.library} failed:\n{self._messages.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._messages):
            file.close()


@contextmanager
def worker(library: str, python: str | None = None) -> Iterator[Worker]:
    """A worker for the time of a block; irexp's own runs in this environment."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = Worker(library, python or sys.executable, folder)
        stack.callback(started.close)
        yield started
