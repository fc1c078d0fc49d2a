"""What is said of the installation, in a clone and from a wheel; tests/test_wheel.py installs a wheel."""

import sys

import pytest

from irexp.config import installation
from irexp.config.installation import CONF, install_command, program


def test_the_configuration_of_a_clone_is_at_its_top() -> None:
    """Beside pyproject.toml, where it is edited."""
    assert (CONF / "config.yaml").is_file()
    assert (CONF.parent / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("is_wheel", "started", "typed"),
    [
        (False, "run.py", "python run.py"),
        (False, "/home/me/irexp/irexp/__main__.py", "python run.py"),
        (False, "/home/me/.venv/bin/irexp", "irexp"),
        (True, "/home/me/.venv/bin/irexp", "irexp"),
        (True, "/home/me/.venv/lib/irexp/__main__.py", "irexp"),
    ],
)
def test_what_starts_irexp(monkeypatch: pytest.MonkeyPatch, is_wheel: bool, started: str, typed: str) -> None:
    """The script where it was used, or where there is no run.py."""
    monkeypatch.setattr(installation, "_IS_WHEEL", is_wheel)
    monkeypatch.setattr(sys, "argv", [started])
    assert program() == typed


def test_what_installs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone has a tested set of versions; a wheel that is installed gets the packages that it lacks."""
    assert install_command("embedded") == 'pip install -c constraints.txt -e ".[embedded]"'
    monkeypatch.setattr(installation, "_IS_WHEEL", True)
    assert install_command("embedded") == 'pip install "irexp[embedded]"'
