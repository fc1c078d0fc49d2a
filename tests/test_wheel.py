"""A wheel that is installed elsewhere is the same program in any folder; all else comes from this environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chains import write_collection

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """A wheel, and an environment that it is installed in."""

    wheel: Path
    bin: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment prints in a folder that is no clone."""
        command = [str(self.bin / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy, since setuptools leaves a folder of files beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("irexp", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("irexp-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # behind the wheel's own folder
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    qrels = {"test": "d0\td0\t1\nd0\td3\t1\n"}
    write_collection(elsewhere / "toys", {"d0": "make cups"}, qrels)
    return Installed(wheel, python.parent, elsewhere)


def test_it_holds_every_module_and_every_option(installed: Installed) -> None:
    """conf/ lies inside the package, and nothing lies beside it."""
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        others = {name.partition(".dist-info/")[2] for name in wheel.namelist()} - {""}
    code = {
        path.relative_to(ROOT).as_posix()
        for folder in ("irexp", "hydra_plugins")
        for path in (ROOT / folder).rglob("*.py")
    }
    options = {f"irexp/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(code) > 150 and len(options) > 100
    assert names == code | options | {"irexp/py.typed"}
    assert {"licenses/LICENSE", "entry_points.txt"} <= others


def test_hydra_finds_the_configuration_inside_it(installed: Installed) -> None:
    """For help, in a further folder that was named in either way, and for the composed configuration."""
    text = installed.run("irexp", "--help")
    assert re.search(r"^model: bm25, ", text, re.MULTILINE) and "  irexp model=sbert stage=search " in text
    assert text == installed.run("python", "-m", "irexp", "--help")
    mine = installed.folder / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "mine.yaml").write_text("# @package _global_\ndefaults: [override /model: splade]\nseed: 7\n")
    for folder in ("--config-dir=mine", f"hydra.searchpath=[file://{mine.parent}]"):
        text = installed.run("irexp", folder, "experiment=mine", "--cfg", "job")
        assert "_target_: irexp.model.splade.SPLADE" in text and "seed: 7" in text
    done = subprocess.run([installed.bin / "irexp", "model=sbrt"], capture_output=True, text=True, check=False)
    assert (done.returncode, "did you mean sbert?" in done.stderr) == (1, True)


def test_a_job_a_sweep_and_the_python_interface_run_elsewhere(installed: Installed) -> None:
    """An untrained model beside BM25; the same again as a sweep finds everything; its checkpoint opens in Python."""
    small = ["dataset=local", "dataset.path=toys", "training=none", "machine.progress=false"]
    small.append('baselines=[["model=bm25"]]')
    text = installed.run("irexp", *small)
    assert re.findall(r"^\| (\w.*?) +\|", text, re.MULTILINE) == ["bm25", "sbert before fine-tuning"]
    assert len(list(installed.folder.glob("outputs/*/*/irexp.log"))) == 1
    text = installed.run("irexp", "-m", "model=bm25,sbert", "stage=evaluate", *small)
    assert text.count("evaluate: already done") >= 2 and "2 jobs in multirun/" in text
    (checkpoint,) = installed.folder.glob("artifacts/checkpoint/*/")
    code = "import irexp, sys; print(irexp.__file__); print(irexp.load(sys.argv[1]).score('a', ['a cup', 'b']).shape)"
    place, shape = installed.run("python", "-c", code, str(checkpoint)).splitlines()[:2]
    assert Path(place).is_relative_to(installed.bin.parent)
    assert shape == "torch.Size([2])"
