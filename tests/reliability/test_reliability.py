"""A command that is killed loses nothing, and damage is named: short executions of the scripts of this folder."""

from pathlib import Path

import pytest

from tests import commands
from tests.reliability.jobs import ROOT


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
def test_killed_commands_lose_nothing_and_damage_is_named(arguments: list[str], tmp_path: Path) -> None:
    """Run with more times, or with every case, by hand."""
    script, *more = arguments
    status, text = commands.finish(ROOT, more, tmp_path / "log", module=f"tests.reliability.{script}")
    assert status == 0, text
    assert text.endswith(("killed, 0 not made good\n", "damaged, 0 not noticed\n"))
