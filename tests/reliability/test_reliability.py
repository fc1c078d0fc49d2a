"""A command that is killed loses nothing, and damage is named: short executions of the scripts of this folder."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["kill", "--times", "3"],
        ["kill_fit", "--times", "1", "--only", "EMA and accumulation", "GradCache colbert"],
        ["damage", "--every", "29"],
    ],
    ids=["kill", "kill_fit", "damage"],
)
def test_killed_commands_lose_nothing_and_damage_is_named(arguments: list[str]) -> None:
    """Run with more times, or with every case, by hand."""
    script = [sys.executable, "-m", f"tests.reliability.{arguments[0]}", *arguments[1:]]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(("killed, 0 not made good\n", "damaged, 0 not noticed\n"))
