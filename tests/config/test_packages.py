"""Packages are declared by an entry point or by the environment; their components are checked as irexp's own are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from irexp.config import packages
from irexp.config.component import component_faults
from irexp.config.packages import is_declared, packages_of_components, packages_of_targets

MODULE = '''
from dataclasses import dataclass
from irexp.index.index import Index
from irexp.loss.info_nce import InfoNCE


class Soft(InfoNCE):
    def __init__(self, *, width: float = 1.0, kind: "str | None" = None) -> None:
        super().__init__()


class Helper:
    """No loss."""


@dataclass
class LookingSearch:
    probes: int = 1


class Looking(Index):
    def __init__(self, *, search: LookingSearch | None = None) -> None:
        """An engine."""
'''


@pytest.fixture(autouse=True)
def _undeclared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is declared by the environment of the tests, and what is installed is looked up again."""
    monkeypatch.delenv("IREXP_PACKAGES", raising=False)
    packages._installed.cache_clear()
    yield
    packages._installed.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package on the path, of which nothing is imported."""
    name = f"lab_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("from .parts import Soft as Soft\n")
    (tmp_path / name / "parts.py").write_text(MODULE)
    (tmp_path / name / "fails.py").write_text("raise RuntimeError('this was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def faults(**config: Any) -> list[str]:
    """The faults of a configuration that holds nothing else."""
    return component_faults(OmegaConf.create(config))


def test_the_environment_declares_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several, separated by commas; what is irexp's or well known stays so, and a name stands for no longer one."""
    before = packages_of_targets()
    monkeypatch.setenv("IREXP_PACKAGES", " lab, group.losses ,, torch")
    assert packages_of_components() == ("irexp", "lab", "group.losses", "torch")
    assert packages_of_targets() == (*before, "lab", "group.losses", "torch")
    assert [
        path
        for path in ("lab.x.Y", "lab", "group.losses.Z", "group.Z", "laboratory.Y", "torch.X", "irexp.X")
        if is_declared(path)
    ] == ["lab.x.Y", "lab", "group.losses.Z"]


def test_a_distribution_declares_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point whose value names the package, whatever the distribution and the entry point are called."""
    folder = tmp_path / "something-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: something\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[irexp.components]\nany = lab.parts\n[other]\nany = elsewhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_declared("lab.parts.Soft")
    assert not is_declared("lab.Soft")
    assert not is_declared("elsewhere.Soft")


def test_a_declared_component_is_checked_by_its_source(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings, their types and nearest spellings, its role and what stands within it, without an import."""
    soft, looking = {"_target_": f"{package}.parts.Soft"}, {"_target_": f"{package}.parts.Looking"}
    (refused,) = faults(loss=soft)
    assert f"{package}.parts.Soft is outside of what a configuration may name (irexp, torch," in refused
    assert refused.endswith(
        "; a package of your own is declared by an entry point in the group irexp.components, or named in the "
        "environment variable IREXP_PACKAGES"
    )
    monkeypatch.setenv("IREXP_PACKAGES", package)
    assert faults(loss=soft, index={**looking, "search": {"_target_": f"{package}.parts.LookingSearch"}}) == []
    assert faults(loss={"_target_": f"{package}.Soft", "width": 2}) == []
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"loss": {**soft, "widht": 1}}, "did you mean width?"),
        ({"loss": {**soft, "width": "a"}}, "'a' is not float"),
        ({"loss": {"_target_": f"{package}.parts.Sofd"}}, f"did you mean {package}.parts.Soft?"),
        ({"loss": {"_target_": f"{package}.parts.Helper"}}, "it must be irexp.loss.loss.Loss or a class below it"),
        ({"loss": looking}, "it must be irexp.loss.loss.Loss or a class below it"),
        ({"index": {**looking, "search": soft}}, f"it must be {package}.parts.LookingSearch"),
        ({"loss": {"_target_": f"{package}.fails.Any"}}, f"{package}.fails.Any cannot be found"),
    ]
    for config, words in wrong:
        (fault,) = faults(**config)
        assert words in fault
