"""Linters, types and import contracts, so that `pytest` alone runs all checks."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_the_tool_finds_nothing(command: list[str]) -> None:
    """A fault of style, types or imports fails the suite."""
    program = BIN / command[0]
    assert program.exists(), f'{command[0]} is not installed; pip install -e ".[test]"'
    done = subprocess.run([str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_showing_the_configuration_imports_no_torch() -> None:
    """Nor Lightning, transformers or faiss, which would take seconds."""
    code = (
        "import sys; sys.argv = ['run.py', '--cfg', 'job', '--resolve', '-p', 'artifact']; import runpy; "
        "runpy.run_path('run.py', run_name='__main__'); "
        "print(sorted({'torch', 'lightning', 'transformers', 'faiss'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "checkpoint: own" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
