"""The code of another package is part of what an artifact is made from: by its version, or by its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.artifact.code import code_of
from irexp.artifact.identity import canonical

FILES = {
    "__init__.py": "from .loss import Soft as Soft\n",
    "loss.py": "import torch\nfrom .helper import helped\n\n\nclass Soft(torch.nn.Module): ...\n",
    "helper.py": "from . import deep as renamed\n\n\ndef helped(): ...\n",
    "deep.py": "VALUE = 1\n",
    "unrelated.py": "VALUE = 1\n",
}


class Packages:
    """Packages in folders that are on the path and declared."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """None yet."""
        self._root, self._monkeypatch = root, monkeypatch
        self._names: list[str] = []

    def make(self, **changed: str) -> str:
        """A package of its own name, in which some modules hold something else."""
        name = f"code_{self._root.name}_{len(self._names)}"
        self._names.append(name)
        folder = self._root / name / name
        folder.mkdir(parents=True)
        for file, text in FILES.items():
            (folder / file).write_text(changed.get(file.removesuffix(".py"), text))
        self._monkeypatch.syspath_prepend(folder.parent)
        self._monkeypatch.setenv("IREXP_PACKAGES", ",".join(self._names))
        return name

    def record(self, name: str, version: str, *, lists: bool) -> None:
        """The distribution of a package; it lists its files unless it is editable."""
        folder = self._root / name / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "top_level.txt").write_text(f"{name}\n")
        (folder / "RECORD").write_text("".join(f"{name}/{file},,\n" for file in FILES) if lists else "any.pth,,\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """Where packages are made."""
    return Packages(tmp_path, monkeypatch)


def test_without_a_version_the_source_decides(packages: Packages) -> None:
    """That of the module and of all that it imports, in turn, of declared packages; not the rest of the package."""
    code = code_of(f"{packages.make()}.loss.Soft")
    assert code.startswith("source ") and len(code) == len("source ") + 16
    assert code_of(f"{packages.make()}.loss.Soft") == code
    assert code_of(f"{packages.make(unrelated='VALUE = 2')}.loss.Soft") == code
    for changed in ({"loss": FILES["loss.py"] + "# more\n"}, {"helper": FILES["helper.py"] + "\n"}, {"deep": "V = 2"}):
        assert code_of(f"{packages.make(**changed)}.loss.Soft") != code


def test_it_is_the_defining_module_that_counts(packages: Packages) -> None:
    """Where a name is imported from elsewhere, what defines it is followed."""
    name = packages.make()
    assert code_of(f"{name}.Soft") == code_of(f"{name}.loss.Soft")


def test_an_installed_package_enters_by_its_version(packages: Packages) -> None:
    """Whatever its source is, since a release is not edited."""
    name = packages.make()
    packages.record(name, "1.2", lists=True)
    assert code_of(f"{name}.loss.Soft") == f"{name} 1.2"


def test_an_editable_package_enters_by_its_source(packages: Packages) -> None:
    """Its version stays while it is edited."""
    name = packages.make()
    packages.record(name, "1.2", lists=False)
    assert code_of(f"{name}.loss.Soft") == code_of(f"{packages.make()}.loss.Soft")


def test_a_name_that_is_made_at_run_time_has_the_source_of_its_module(packages: Packages) -> None:
    """It is imported; its module alone counts."""
    made = "class Soft: ...\n"
    lazy = "def __getattr__(name):\n    from .deep import Soft\n    return Soft\n"
    one, other = (packages.make(loss=lazy, deep=made + more) for more in ("", "# more\n"))
    assert code_of(f"{one}.loss.Soft").startswith("source ")
    assert code_of(f"{one}.loss.Soft") != code_of(f"{other}.loss.Soft")


def test_a_component_of_a_declared_package_enters_by_path_and_code(packages: Packages) -> None:
    """Wherever it stands in a setting; irexp's own enters by its name, as ever."""
    target = f"{packages.make()}.loss.Soft"
    own = {"_target_": "irexp.loss.lce.LCE", "inner": [{"_target_": target, "width": 1.0}]}
    expected = {"_target_": f"{target} of {code_of(target)}", "width": 1}
    assert canonical(own) == {"_target_": "LCE", "inner": [expected]}
