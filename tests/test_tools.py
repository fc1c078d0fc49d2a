"""The tools that hold the house together: one command, `pytest`, runs them all."""

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
    """Style, types and the import contracts hold."""
    program = BIN / command[0]
    assert program.exists(), f'{command[0]} is not installed; pip install -e ".[test]"'
    done = subprocess.run([str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_torch_for_help() -> None:
    """The configuration answers without torch, Lightning, transformers or faiss being imported."""
    code = (
        "import sys; sys.argv = ['run.py', '--cfg', 'job', '--resolve', '-p', 'artifact']; import runpy; "
        "runpy.run_path('run.py', run_name='__main__'); "
        "print(sorted({'torch', 'lightning', 'transformers', 'faiss'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "checkpoint: own" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
